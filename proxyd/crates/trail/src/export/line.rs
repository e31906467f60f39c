//! Lines of JSON (RFC 8259), which show on a terminal without driving it.
use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use crate::screen::turns_around;

/// Writes a value in JSON and the end of the line. Every control character is escaped, those of
/// direction too, so that nothing of it drives or misleads the terminal that it may be shown on.
pub fn json_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    json(out, value)?;
    out.write_all(b"\n")
}

/// Writes a value alone.
pub(super) fn json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    Ok(value.serialize(&mut Serializer::with_formatter(out, Escaping))?)
}

/// Escapes what the grammar of JSON does not ask to be.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut plain = String::new();
        for character in fragment.chars() {
            if character.is_control() || turns_around(character) {
                writer.write_all(plain.as_bytes())?;
                plain.clear();
                // All of them are in the first plane, so that one unit is enough.
                write!(writer, "\\u{:04x}", u32::from(character))?;
            } else {
                plain.push(character);
            }
        }
        writer.write_all(plain.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::json_line;

    #[test]
    fn nothing_drives_a_terminal() {
        let mut line = Vec::new();
        json_line(&mut line, &"a\"\\\u{1b}[m\u{7f}\u{9b}\u{202e}\u{e9}\n").unwrap();
        let expected = "\"a\\\"\\\\\\u001b[m\\u007f\\u009b\\u202e\u{e9}\\n\"\n";
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }
}
