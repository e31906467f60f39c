//! Secrets in memory: wiped when dropped, never printed.

use std::fmt;

use zeroize::Zeroize;

/// A secret value; `Debug` prints "[secret]", and dropping it overwrites the memory.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value in; copies made before are the caller's to wipe.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the one step that needs it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_hides_the_value() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn dropping_wipes() {
        struct Probe<'a>(&'a std::cell::Cell<bool>);
        impl zeroize::Zeroize for Probe<'_> {
            fn zeroize(&mut self) {
                self.0.set(true);
            }
        }
        let wiped = std::cell::Cell::new(false);
        drop(Secret::new(Probe(&wiped)));
        assert!(wiped.get());
    }
}
