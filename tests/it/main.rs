//! Tests of the whole, in one binary. They need root.

mod steering_program;
