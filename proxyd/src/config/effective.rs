//! The whole configuration as TOML, for `proxyd check --effective`.

use super::file::File;
use super::section::{Field, Section};

/// The whole file as TOML, defaults written out, without secrets.
pub(super) fn effective(file: &File) -> String {
    let mut text = String::new();
    write_table(&mut text, &file.steering);
    write_table(&mut text, &file.limits);
    write_table(&mut text, &file.storage);
    write_list(&mut text, &file.connection_policy);
    write_list(&mut text, &file.settings_policy);
    write_list(&mut text, &file.authentication_policy);
    write_list(&mut text, &file.user);
    write_list(&mut text, &file.usermapping_policy);
    write_list(&mut text, &file.channel_policy);
    write_list(&mut text, &file.file_policy);
    write_list(&mut text, &file.time_policy);
    write_list(&mut text, &file.audit_policy);
    write_list(&mut text, &file.credential_store);
    text
}

fn write_table<S: Section>(text: &mut String, table: &Field<S>) {
    if let Some(section) = table.get() {
        write_section(text, &format!("[{}]", table.key), section);
    }
}

fn write_list<S: Section>(text: &mut String, list: &Field<Vec<S>>) {
    for section in list.get().into_iter().flatten() {
        write_section(text, &format!("[[{}]]", list.key), section);
    }
}

fn write_section<S: Section>(text: &mut String, header: &str, section: &S) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(header);
    text.push('\n');
    for (key, value) in section.write_keys() {
        text.push_str(&format!("{key} = {value}\n"));
    }
}
