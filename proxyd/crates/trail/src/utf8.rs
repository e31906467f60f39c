//! Decodes UTF-8 that comes in pieces.

/// Holds the start of a character whose rest has not come yet, at most 3 bytes.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    incomplete: Vec<u8>,
}

impl Utf8 {
    /// The text of the bytes so far, but for a character that is not whole yet; what is not UTF-8
    /// becomes U+FFFD.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> String {
        self.incomplete.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.incomplete);
        let mut text = String::new();
        let mut rest = input.as_slice();
        while let Err(error) = str::from_utf8(rest) {
            let (valid, tail) = rest.split_at_checked(error.valid_up_to()).unwrap_or((rest, &[]));
            text.push_str(&String::from_utf8_lossy(valid));
            let Some(invalid_bytes) = error.error_len() else {
                self.incomplete = tail.to_vec();
                return text;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = tail.get(invalid_bytes..).unwrap_or_default();
        }
        text.push_str(&String::from_utf8_lossy(rest));
        text
    }

    /// U+FFFD if the bytes ended inside a character, else nothing.
    pub(crate) const fn rest(&self) -> &'static str {
        if self.incomplete.is_empty() { "" } else { "\u{fffd}" }
    }
}
