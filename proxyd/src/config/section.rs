//! Sections of the configuration file: each key is declared once, with its type, its default and
//! its meaning, and read, written and documented from that declaration.

use toml::de::{DeTable, DeValue};

use super::report::{Problems, Span};
use super::value::{Node, Value};

/// What a section does about a key that the file leaves out.
pub(crate) enum Need<T> {
    /// It is an error.
    Required,
    /// The key has this value.
    Or(T),
    /// The key has the value of an empty table: every key inside has its own default.
    Inside,
}

/// A table with declared keys.
pub(crate) trait Section: Value {
    /// The keys that have a value, in the order of declaration, with the value as TOML.
    fn write_keys(&self) -> Vec<(&'static str, String)>;
}

/// The value of a key, or nothing when it was bad, which has been noted then.
#[derive(Debug)]
pub(crate) struct Field<T> {
    value: Option<T>,
    /// Where the value stands; where its section stands when it is a default.
    pub(crate) span: Span,
    /// The key that leads to it.
    pub(crate) key: String,
}

impl<T> Field<T> {
    /// The value, unless it was bad.
    pub(crate) const fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }
}

/// The documentation of one key.
#[derive(Debug)]
pub(crate) struct KeyDoc {
    /// The key.
    pub(crate) name: &'static str,
    /// The type in words.
    pub(crate) kind: String,
    /// What holds when the key is left out.
    pub(crate) default: String,
    /// What the key means.
    pub(crate) meaning: String,
}

/// The documentation of one section.
#[derive(Debug)]
pub(crate) struct SectionDoc {
    /// The key that leads to it, `channel_policy.rule`.
    pub(crate) key: String,
    /// Whether there may be many, so that its header has double brackets.
    pub(crate) repeated: bool,
    /// What it is for.
    pub(crate) about: String,
    /// Its keys in the order of declaration.
    pub(crate) keys: Vec<KeyDoc>,
}

/// A table while it is read.
#[derive(Debug)]
pub(crate) struct TableReader<'a> {
    node: Node<'a>,
    table: &'a DeTable<'a>,
}

impl<'a> TableReader<'a> {
    /// Starts to read `node`, whose keys are `known`; notes every other key.
    pub(crate) fn new(node: &Node<'a>, known: &[&str], problems: &mut Problems) -> Option<Self> {
        let Some(table) = node.value.as_table() else {
            node.wrong_type(problems, "a table");
            return None;
        };
        let node = Node { value: node.value, span: node.span.clone(), key: node.key.clone() };
        let reader = Self { node, table };
        for (key, value) in table.iter() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                // A misspelt key may hold a secret.
                if value.get_ref().is_str() {
                    problems.hide(&Some(value.span()));
                }
                let path = reader.path(name);
                let help = match nearest(name, known) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("the keys here are: {}", known.join(", ")),
                };
                problems.error_with_help(&Some(key.span()), &path, "unknown key", help);
            }
        }
        Some(reader)
    }

    /// Reads the value of one key.
    pub(crate) fn field<T: Value>(
        &self,
        name: &str,
        need: Need<T>,
        problems: &mut Problems,
    ) -> Field<T> {
        let key = self.path(name);
        if let Some(value) = self.table.get(name) {
            let node = self.node.inner(key.clone(), value);
            let value = T::read(&node, problems);
            return Field { value, span: node.span, key };
        }
        let value = match need {
            Need::Required => {
                problems.missing(&self.node.span, &key);
                None
            }
            Need::Or(value) => Some(value),
            Need::Inside => {
                let empty = DeValue::Table(DeTable::new());
                let span = self.node.span.clone();
                T::read(&Node { value: &empty, span, key: key.clone() }, problems)
            }
        };
        Field { value, span: self.node.span.clone(), key }
    }

    fn path(&self, name: &str) -> String {
        match self.node.key.as_str() {
            "" => name.to_owned(),
            outer => format!("{outer}.{name}"),
        }
    }
}

/// The key of a field; fields named like a keyword are raw identifiers.
pub(crate) fn key_name(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

/// The documentation of a key from its declaration.
pub(crate) fn key_doc<T: Value>(field: &'static str, need: &Need<T>, meaning: &str) -> KeyDoc {
    let default = match need {
        Need::Required => "required".to_owned(),
        Need::Or(value) => value.write().map_or("none".to_owned(), |text| format!("`{text}`")),
        Need::Inside => "the defaults inside".to_owned(),
    };
    let meaning = meaning.trim().to_owned();
    KeyDoc { name: key_name(field), kind: T::describe(), default, meaning }
}

/// A section as an inline table.
pub(crate) fn write_inline(keys: &[(&'static str, String)]) -> String {
    let keys: Vec<String> =
        keys.iter().map(|(key, value)| format!("{key} = {}", value.replace('\n', " "))).collect();
    format!("{{ {} }}", keys.join(", "))
}

/// The word of `known` that `name` is most likely a slip of.
pub(crate) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    /// Edits after which a word counts as another one.
    const EDITS_MAX: usize = 2;
    known
        .iter()
        .map(|word| (edits(name, word), *word))
        .filter(|(edits, word)| *edits <= EDITS_MAX && *edits < word.len())
        .min()
        .map(|(_, word)| word)
}

/// The count of insertions, deletions and replacements that turn one text into another.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, from_char) in from.chars().enumerate() {
        let mut left = index + 1;
        let mut next = vec![left];
        for (to_char, above) in to.iter().zip(row.windows(2)) {
            let &[diagonal, above] = above else { continue };
            let replaced = diagonal + usize::from(from_char != *to_char);
            left = replaced.min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// Declares a section: `key: type = need;` with doc comments that become its documentation.
///
/// A key without a doc comment does not compile.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $(
                $(#[doc = $meaning:literal])+
                $field:ident: $type:ty = $need:expr;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug)]
        pub(crate) struct $name {
            $(
                $(#[doc = $meaning])+
                pub(crate) $field: $crate::config::section::Field<$type>,
            )+
        }

        impl $crate::config::section::Section for $name {
            fn write_keys(&self) -> Vec<(&'static str, String)> {
                let keys = [$((
                    $crate::config::section::key_name(stringify!($field)),
                    self.$field.get().and_then($crate::config::value::Value::write),
                )),+];
                keys.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
            }
        }

        impl $crate::config::value::Value for $name {
            fn describe() -> String {
                "table".to_owned()
            }

            fn read(
                node: &$crate::config::value::Node<'_>,
                problems: &mut $crate::config::report::Problems,
            ) -> Option<Self> {
                use $crate::config::section::{TableReader, key_name};
                let known = [$(key_name(stringify!($field))),+];
                let reader = TableReader::new(node, &known, problems)?;
                Some(Self {
                    $($field: reader.field(key_name(stringify!($field)), $need, problems),)+
                })
            }

            fn write(&self) -> Option<String> {
                use $crate::config::section::{Section as _, write_inline};
                Some(write_inline(&self.write_keys()))
            }

            fn sections(
                key: &str,
                repeated: bool,
                docs: &mut Vec<$crate::config::section::SectionDoc>,
            ) {
                use $crate::config::section::{SectionDoc, key_doc, key_name};
                docs.push(SectionDoc {
                    key: key.to_owned(),
                    repeated,
                    about: concat!($($about),+).trim().to_owned(),
                    keys: vec![$(
                        key_doc::<$type>(stringify!($field), &$need, concat!($($meaning),+))
                    ),+],
                });
                $(
                    let name = key_name(stringify!($field));
                    let inner =
                        if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
                    <$type as $crate::config::value::Value>::sections(&inner, false, docs);
                )+
            }
        }
    };
}

pub(crate) use section;

#[cfg(test)]
mod tests {
    use super::{edits, nearest};

    #[test]
    fn slips_are_recognised() {
        let known = ["sessions", "spool", "to"];
        let cases = [
            ("session", Some("sessions")),
            ("sesions", Some("sessions")),
            ("sessionz", Some("sessions")),
            ("spol", Some("spool")),
            ("xy", None),
            ("database", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, &known), expected, "{name}");
        }
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("abc", ""), 3);
    }
}
