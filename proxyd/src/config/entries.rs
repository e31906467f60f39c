//! Named entries of a list, and references to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::report::Problems;
use super::section::Field;
use super::semantic;
use super::value::Name;

/// The entries of one list by name; an entry with problems of its own has a name only.
pub(super) struct Entries<T> {
    /// The key of the list.
    key: String,
    by_name: BTreeMap<String, Option<Arc<T>>>,
    /// Whether the list itself could be read.
    read: bool,
}

impl<T> Entries<T> {
    /// Builds every entry of a list; notes names that occur twice.
    pub(super) fn new<F>(
        list: &Field<Vec<F>>,
        name: impl Fn(&F) -> &Field<Name>,
        problems: &mut Problems,
        build: impl Fn(&F, &mut Problems) -> Option<T>,
    ) -> Self {
        let mut by_name = BTreeMap::new();
        for entry in list.get().into_iter().flatten() {
            let built = build(entry, problems).map(Arc::new);
            let field = name(entry);
            let Some(name) = field.get() else { continue };
            if by_name.insert(name.0.clone(), built).is_some() {
                let message = format!("\"{}\" is the name of an earlier entry too", name.0);
                problems.error(&field.span, &field.key, message);
            }
        }
        Self { key: list.key.clone(), by_name, read: list.get().is_some() }
    }

    /// The entry that a key names; notes a name that no entry has.
    pub(super) fn find(&self, field: &Field<Name>, problems: &mut Problems) -> Option<Arc<T>> {
        self.find_name(field.get()?, field, problems)
    }

    /// As [`Entries::find`] for a key that may be left out; the inner `None` is the key left out.
    pub(super) fn find_optional(
        &self,
        field: &Field<Option<Name>>,
        problems: &mut Problems,
    ) -> Option<Option<Arc<T>>> {
        match field.get()? {
            Some(name) => self.find_name(name, field, problems).map(Some),
            None => Some(None),
        }
    }

    fn find_name<N>(
        &self,
        name: &Name,
        field: &Field<N>,
        problems: &mut Problems,
    ) -> Option<Arc<T>> {
        if let Some(entry) = self.by_name.get(&name.0) {
            return entry.clone();
        }
        if self.read {
            let message = format!("there is no [[{}]] named \"{}\"", self.key, name.0);
            let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            problems.error_with_help(&field.span, &field.key, message, semantic::name_help(&names));
        }
        None
    }

    /// Every entry, when none has problems.
    pub(super) fn complete(self) -> Option<BTreeMap<String, Arc<T>>> {
        self.by_name.into_iter().map(|(name, entry)| Some((name, entry?))).collect()
    }
}
