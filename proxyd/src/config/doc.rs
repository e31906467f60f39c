//! `docs/config.md`, generated from the declarations of the keys.

use proxyd_policy::reason::DenyReason;

use super::file::File;
use super::section::{KeyDoc, SectionDoc};
use super::value::Value as _;

/// What stands before the generated part.
const HEAD: &str = "\
# Configuration

<!-- Generated from proxyd/src/config/file.rs. Do not edit. -->

One TOML file describes everything. `proxyd check FILE` reports all errors of a file together,
`proxyd check --effective FILE` prints it with every default written out, and
`proxyd explain --config FILE --from 10.1.0.5 --to 10.2.0.9:22` says which connection policy
matches, and why the earlier ones do not.

An unknown key is an error. Secrets are never in the file: keys that end in `_file` name files.
Relative paths start at the directory of the configuration file.
";

/// Suffixes of keys, and the unit that each stands for.
const UNITS: &[(&str, &str)] = &[("_s", "seconds"), ("_bytes", "bytes")];

/// The text of `docs/config.md`.
#[must_use]
pub fn markdown() -> String {
    let mut docs = Vec::new();
    File::sections("", false, &mut docs);
    let mut text = HEAD.to_owned();
    for section in docs.iter().filter(|section| !section.key.is_empty()) {
        text.push_str(&section_text(section));
    }
    text.push_str(&reasons_text());
    text
}

/// A heading, what the section is for, and a table of its keys.
fn section_text(section: &SectionDoc) -> String {
    let heading = match section.key.split_once(" (") {
        Some((key, form)) => format!("`{key}` = \"{}\"", form.trim_end_matches(')')),
        None if section.repeated => format!("`[[{}]]`", section.key),
        None => format!("`[{}]`", section.key),
    };
    let mut text = format!("\n## {heading}\n\n{}\n\n", section.about);
    text.push_str("| key | type | default | unit | meaning |\n|---|---|---|---|---|\n");
    for key in &section.keys {
        text.push_str(&key_text(key));
    }
    text
}

/// One row of the table of keys.
fn key_text(key: &KeyDoc) -> String {
    let unit = UNITS.iter().find(|(suffix, _)| key.name.ends_with(suffix));
    let unit = unit.map_or("", |&(_, unit)| unit);
    let name = format!("`{}`", key.name);
    let cells: [&str; 5] = [&name, &key.kind, &key.default, unit, &key.meaning];
    let cells = cells.map(|cell| cell.replace('|', "\\|").replace('\n', " "));
    format!("| {} |\n", cells.join(" | "))
}

/// The reasons that records and messages give, so that operators can look one up.
fn reasons_text() -> String {
    let mut text =
        "\n## Reasons for refusal\n\n| code | what the user is told |\n|---|---|\n".to_owned();
    for reason in DenyReason::ALL {
        text.push_str(&format!("| `{}` | {} |\n", reason.code(), reason.text()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_says_what_it_means() {
        let mut docs = Vec::new();
        File::sections("", false, &mut docs);
        for section in &docs {
            assert!(!section.about.is_empty(), "{}", section.key);
            for key in &section.keys {
                assert!(
                    key.meaning.ends_with('.'),
                    "{}.{}: {}",
                    section.key,
                    key.name,
                    key.meaning
                );
            }
        }
    }

    #[test]
    fn the_committed_document_is_the_generated_one() {
        let committed = include_str!("../../../docs/config.md");
        let generated = markdown();
        for (committed, generated) in committed.lines().zip(generated.lines()) {
            assert_eq!(committed, generated);
        }
        assert_eq!(committed.len(), generated.len());
    }
}
