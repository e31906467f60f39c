//! Values of the configuration file: how each type is described, read and written.

use std::path::PathBuf;

use proxyd_policy::limits::{NAME_BYTES_MAX, REALM_BYTES_MAX};
use toml::Spanned;
use toml::de::DeValue;

use super::report::{Problems, Span};
use super::section::SectionDoc;

/// A value of the file with its place and its key.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    /// The value as the parser left it.
    pub(crate) value: &'a DeValue<'a>,
    /// Where it stands.
    pub(crate) span: Span,
    /// The key that leads to it, `connection_policy[0].from[1]`.
    pub(crate) key: String,
}

/// A type that a key of the file can have.
pub(crate) trait Value: Sized {
    /// The type in words, for documents and errors: "integer from 1 to 10", "list of prefix".
    fn describe() -> String;

    /// Reads a value; notes everything that is wrong with it and then gives nothing.
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self>;

    /// The value as TOML; nothing for a key that is left out.
    fn write(&self) -> Option<String>;

    /// Appends the sections below this type, for documents.
    fn sections(_key: &str, _repeated: bool, _docs: &mut Vec<SectionDoc>) {}
}

impl<'a> Node<'a> {
    /// The node of a value inside this one.
    pub(crate) fn inner(&self, key: String, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { value: value.get_ref(), span: Some(value.span()), key }
    }

    /// Notes an error about this node.
    pub(crate) fn error(&self, problems: &mut Problems, message: impl Into<String>) {
        problems.error(&self.span, &self.key, message);
    }

    /// Notes that the value is of another type than `expected`.
    pub(crate) fn wrong_type(&self, problems: &mut Problems, expected: &str) {
        let found = self.value.type_str();
        self.error(problems, format!("expected {expected}, found {found}"));
    }

    /// The text of a string value, or a note about its type.
    pub(crate) fn text(&self, problems: &mut Problems, expected: &str) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong_type(problems, expected);
        }
        text
    }
}

/// `text` as a TOML basic string on one line.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

impl Value for bool {
    fn describe() -> String {
        "true or false".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let value = node.value.as_bool();
        if value.is_none() {
            node.wrong_type(problems, &Self::describe());
        }
        value
    }

    fn write(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// An integer from `MIN` to `MAX`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Int<const MIN: u32, const MAX: u32>(pub(crate) u32);

/// A TCP port.
pub(crate) type Port = Int<1, 65_535>;

impl<const MIN: u32, const MAX: u32> Value for Int<MIN, MAX> {
    fn describe() -> String {
        format!("integer from {MIN} to {MAX}")
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let Some(integer) = node.value.as_integer() else {
            node.wrong_type(problems, &Self::describe());
            return None;
        };
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
        let in_range = number.filter(|number| (MIN..=MAX).contains(number));
        if in_range.is_none() {
            node.error(problems, format!("{integer} is not an {}", Self::describe()));
        }
        in_range.map(Self)
    }

    fn write(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

/// A number of bytes that may be more than 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl Value for Size {
    fn describe() -> String {
        format!("integer from 0 to {}", i64::MAX)
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let Some(integer) = node.value.as_integer() else {
            node.wrong_type(problems, &Self::describe());
            return None;
        };
        // TOML promises no larger integers.
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let size = number.and_then(|number| u64::try_from(number).ok());
        if size.is_none() {
            node.error(problems, format!("{integer} is not an {}", Self::describe()));
        }
        size.map(Self)
    }

    fn write(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

/// The name of a policy, user or group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(pub(crate) String);

impl Value for Name {
    fn describe() -> String {
        "name".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let text = node.text(problems, "a name (string)")?;
        if text.is_empty() || text.chars().any(char::is_control) {
            node.error(problems, "a name must not be empty or hold control characters");
            return None;
        }
        if text.len() > NAME_BYTES_MAX {
            let bytes = text.len();
            node.error(problems, format!("name of {bytes} bytes exceeds {NAME_BYTES_MAX}"));
            return None;
        }
        Some(Self(text.to_owned()))
    }

    fn write(&self) -> Option<String> {
        Some(quote(&self.0))
    }
}

/// A Kerberos realm (RFC 4120 section 6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Realm(pub(crate) String);

impl Value for Realm {
    fn describe() -> String {
        "realm, \"EXAMPLE.COM\"".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let text = node.text(problems, "a realm (string)")?;
        let is_part_of_one = |c: char| c.is_ascii_graphic() && !r"/:@\".contains(c);
        if text.is_empty() || text.len() > REALM_BYTES_MAX || !text.chars().all(is_part_of_one) {
            let message = format!(
                "a realm is 1 to {REALM_BYTES_MAX} printable ASCII characters, none of /, :, @ and \
                 backslash"
            );
            node.error(problems, message);
            return None;
        }
        Some(Self(text.to_owned()))
    }

    fn write(&self) -> Option<String> {
        Some(quote(&self.0))
    }
}

/// A path, relative to the directory of the configuration file unless absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilePath(pub(crate) PathBuf);

impl Value for FilePath {
    fn describe() -> String {
        "path".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let text = node.text(problems, "a path (string)")?;
        if text.is_empty() || text.contains('\0') {
            node.error(problems, "a path must not be empty or hold a zero byte");
            return None;
        }
        Some(Self(PathBuf::from(text)))
    }

    fn write(&self) -> Option<String> {
        Some(quote(&self.0.to_string_lossy()))
    }
}

impl<T: Value> Value for Option<T> {
    fn describe() -> String {
        T::describe()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        T::read(node, problems).map(Some)
    }

    fn write(&self) -> Option<String> {
        self.as_ref().and_then(T::write)
    }

    fn sections(key: &str, repeated: bool, docs: &mut Vec<SectionDoc>) {
        T::sections(key, repeated, docs);
    }
}

impl<T: Value> Value for Vec<T> {
    fn describe() -> String {
        format!("list of: {}", T::describe())
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let Some(array) = node.value.as_array() else {
            node.wrong_type(problems, &format!("a {}", Self::describe()));
            return None;
        };
        // Every element is read before giving up, so that each bad one is reported.
        let elements: Vec<Option<T>> = array
            .iter()
            .enumerate()
            .map(|(index, element)| {
                T::read(&node.inner(format!("{}[{index}]", node.key), element), problems)
            })
            .collect();
        elements.into_iter().collect()
    }

    fn write(&self) -> Option<String> {
        let elements: Vec<String> = self.iter().filter_map(T::write).collect();
        let lines = elements.iter().any(|element| element.starts_with('{'));
        Some(if lines {
            format!("[\n  {},\n]", elements.join(",\n  "))
        } else {
            format!("[{}]", elements.join(", "))
        })
    }

    fn sections(key: &str, _repeated: bool, docs: &mut Vec<SectionDoc>) {
        T::sections(key, true, docs);
    }
}

/// A list with at least one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NonEmpty<T>(pub(crate) Vec<T>);

impl<T: Value> Value for NonEmpty<T> {
    fn describe() -> String {
        format!("list, not empty, of: {}", T::describe())
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let list = Vec::read(node, problems)?;
        if list.is_empty() {
            node.error(problems, "the list must not be empty");
            return None;
        }
        Some(Self(list))
    }

    fn write(&self) -> Option<String> {
        self.0.write()
    }

    fn sections(key: &str, _repeated: bool, docs: &mut Vec<SectionDoc>) {
        T::sections(key, true, docs);
    }
}

/// Reads one of `words`; a word of `later` is known, but not by this version.
pub(crate) fn read_word<T: Copy>(
    node: &Node<'_>,
    words: &[(&str, T)],
    later: &[&str],
    problems: &mut Problems,
) -> Option<T> {
    let expected = one_of(words);
    let text = node.text(problems, &expected)?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    if found.is_none() && later.contains(&text) {
        node.error(problems, format!("{} is not yet supported by this version", quote(text)));
    } else if found.is_none() {
        node.error(problems, format!("{} is not one of: {expected}", quote(text)));
    }
    found
}

/// The word that stands for `value`, as TOML.
pub(crate) fn write_word<T: PartialEq>(value: &T, words: &[(&str, T)]) -> Option<String> {
    words.iter().find(|(_, own)| own == value).map(|(word, _)| quote(word))
}

/// The words as a choice: `"drop", "reset"`.
pub(crate) fn one_of<T>(words: &[(&str, T)]) -> String {
    words.iter().map(|(word, _)| quote(word)).collect::<Vec<_>>().join(", ")
}

/// Makes an enum a [`Value`] that is written as one of some words.
macro_rules! words {
    ($type:ty: $($word:literal => $value:expr),+ $(; later $($later:literal),+)?) => {
        impl $crate::config::value::Value for $type {
            fn describe() -> String {
                format!("one of {}", $crate::config::value::one_of(&[$(($word, $value)),+]))
            }

            fn read(
                node: &$crate::config::value::Node<'_>,
                problems: &mut $crate::config::report::Problems,
            ) -> Option<Self> {
                let words = [$(($word, $value)),+];
                let later: &[&str] = &[$($($later),+)?];
                $crate::config::value::read_word(node, &words, later, problems)
            }

            fn write(&self) -> Option<String> {
                $crate::config::value::write_word(self, &[$(($word, $value)),+])
            }
        }
    };
}

/// Makes a type with `FromStr` and `Display` a [`Value`] that is written as a string.
macro_rules! parsed {
    ($type:ty, $description:literal) => {
        impl $crate::config::value::Value for $type {
            fn describe() -> String {
                $description.to_owned()
            }

            fn read(
                node: &$crate::config::value::Node<'_>,
                problems: &mut $crate::config::report::Problems,
            ) -> Option<Self> {
                let text = node.text(problems, concat!($description, " (string)"))?;
                match text.parse::<Self>() {
                    Ok(value) => Some(value),
                    Err(error) => {
                        node.error(problems, error.to_string());
                        None
                    }
                }
            }

            fn write(&self) -> Option<String> {
                Some($crate::config::value::quote(&self.to_string()))
            }
        }
    };
}

pub(crate) use {parsed, words};

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn quoted_text_comes_back() {
        for text in ["", "plain", "a \"b\" \\ c", "two\nlines\r\n\ttab", "\0\u{1b}[31m\u{9b}", "é"]
        {
            let quoted = quote(text);
            assert!(!quoted.contains('\n'), "{quoted}");
            let table: toml::Table = format!("key = {quoted}").parse().unwrap();
            assert_eq!(table.get("key").and_then(toml::Value::as_str), Some(text));
        }
    }
}
