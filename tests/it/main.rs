//! Tests of the whole, in one binary. They need root.

// Marked as test code so that the lints that keep panics out of the daemon leave it alone.
#[cfg(test)]
mod steering_program;
