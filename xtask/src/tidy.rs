//! Rules of the repository that no compiler checks; each is a function from files to findings.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

/// Lines of a source file, its tests not counted.
const FILE_LINES_MAX: usize = 600;
/// Columns of a line.
const LINE_COLUMNS_MAX: usize = 100;

/// A tracked text file.
struct File {
    /// Path from the root of the repository.
    path: String,
    text: String,
}

/// Checks every tracked file; fails with all findings.
pub(crate) fn check(shell: &Shell) -> Result<()> {
    let files = tracked(shell)?;
    let rules: [fn(&[File]) -> Vec<String>; 8] =
        [headers, sizes, attributes, todos, sleeps, queues, lints_inherited, foreign_paths];
    let mut findings: Vec<String> = rules.iter().flat_map(|rule| rule(&files)).collect();
    findings.extend(test_modules(&files));
    findings.extend(code_map(&files));
    findings.extend(layers(&files));
    findings.extend(unwanted(&daemon_crates(shell)?));
    if findings.is_empty() {
        println!("tidy: {} files", files.len());
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    bail!("tidy: {} findings", findings.len())
}

/// Crates that the daemon must not be built from, and why.
const UNWANTED: [(&str, &str); 2] = [
    ("rsa", "the time it takes tells of the private key (RUSTSEC-2023-0071)"),
    ("russh", "only the tests speak SSH by it; its flaws shall not be ours"),
];

/// The names of the crates that the daemon is built from.
fn daemon_crates(shell: &Shell) -> Result<String> {
    let options = ["--locked", "--edges", "normal", "--prefix", "none"];
    Ok(cmd!(shell, "cargo tree --package proxyd {options...}").quiet().read()?)
}

/// A crate that the daemon must not be built from.
fn unwanted(tree: &str) -> Vec<String> {
    let names: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let found = UNWANTED.iter().filter(|(name, _)| names.contains(name));
    found.map(|(name, why)| format!("Cargo.lock: proxyd is built from {name}: {why}")).collect()
}

fn tracked(shell: &Shell) -> Result<Vec<File>> {
    let list = cmd!(shell, "git ls-files --cached --others --exclude-standard").quiet().read()?;
    let mut files = Vec::new();
    for path in list.lines() {
        let bytes = match fs::read(shell.current_dir().join(path)) {
            Ok(bytes) => bytes,
            // Deleted, and not committed yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
        };
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(File { path: path.to_owned(), text });
        }
    }
    Ok(files)
}

fn rust(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.path.ends_with(".rs"))
}

/// A source file says in its first line what it is for.
fn headers(files: &[File]) -> Vec<String> {
    rust(files)
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| format!("{}:1: does not open with `//! ` and its purpose", file.path))
        .collect()
}

/// A source file is short, and so are its lines.
fn sizes(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in rust(files) {
        let code = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = code.lines().count();
        if lines > FILE_LINES_MAX && !is_test(&file.path) {
            findings.push(format!("{}: {lines} lines exceed {FILE_LINES_MAX}", file.path));
        }
        for (index, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            // A key or a digest of a test is one long word.
            let breakable = line.split(' ').all(|word| word.len() < LINE_COLUMNS_MAX);
            if columns > LINE_COLUMNS_MAX && breakable {
                let at = index + 1;
                findings.push(format!(
                    "{}:{at}: {columns} columns exceed {LINE_COLUMNS_MAX}",
                    file.path
                ));
            }
        }
    }
    findings
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// No test is skipped, and none passes by failing.
fn attributes(files: &[File]) -> Vec<String> {
    let refused = [concat!("#[", "ignore"), concat!("#[", "should_panic")];
    lines_with(files, |line| refused.iter().any(|attribute| line.contains(attribute)), "is refused")
}

/// Work left over has an issue.
fn todos(files: &[File]) -> Vec<String> {
    let mark = concat!("TO", "DO");
    lines_with(files, |line| line.contains(mark), "names work that belongs in an issue")
}

/// A test waits for a condition, never for a time.
fn sleeps(files: &[File]) -> Vec<String> {
    let tests: Vec<_> = files
        .iter()
        .filter(|file| file.path.starts_with("tests/it/"))
        .map(|file| File { path: file.path.clone(), text: file.text.clone() })
        .collect();
    lines_with(&tests, |line| line.contains(concat!("sleep", "(")), "waits for a time")
}

/// The bound of a queue has a name.
fn queues(files: &[File]) -> Vec<String> {
    let unnamed = |line: &str| {
        let Some((_, after)) = line.split_once(concat!("mpsc::", "channel(")) else { return false };
        after.starts_with(|first: char| first.is_ascii_digit())
    };
    lines_with(files, unnamed, "builds a queue without a named bound")
}

fn lines_with(files: &[File], refused: impl Fn(&str) -> bool, what: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for file in rust(files) {
        for (index, line) in file.text.lines().enumerate() {
            if refused(line) {
                findings.push(format!("{}:{}: {what}", file.path, index + 1));
            }
        }
    }
    findings
}

/// Every package takes the lints of the workspace.
fn lints_inherited(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml") && !file.path.starts_with("tests/fuzz"))
        .filter(|file| !file.text.contains("[lints]\nworkspace = true"))
        .map(|file| format!("{}: does not take the workspace's lints", file.path))
        .collect()
}

/// Nothing names a place on the machine it was written on.
fn foreign_paths(files: &[File]) -> Vec<String> {
    let refused = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];
    files
        .iter()
        .filter(|file| file.path != "Cargo.lock")
        .filter(|file| refused.iter().any(|path| file.text.contains(path)))
        .map(|file| format!("{}: names a directory of one machine", file.path))
        .collect()
}

/// Every test file is part of the one test binary.
fn test_modules(files: &[File]) -> Vec<String> {
    let Some(main) = files.iter().find(|file| file.path == "tests/it/main.rs") else {
        return vec!["tests/it/main.rs: is missing".to_owned()];
    };
    files
        .iter()
        .filter_map(|file| file.path.strip_prefix("tests/it/")?.strip_suffix(".rs"))
        .filter(|module| *module != "main" && !module.contains('/'))
        .filter(|module| !main.text.contains(&format!("mod {module};")))
        .map(|module| format!("tests/it/{module}.rs: is not listed in tests/it/main.rs"))
        .collect()
}

/// The code map names every module of the daemon and every package, and nothing that is not there.
fn code_map(files: &[File]) -> Vec<String> {
    let Some(map) = files.iter().find(|file| file.path == "ARCHITECTURE.md") else {
        return vec!["ARCHITECTURE.md: is missing".to_owned()];
    };
    let named: BTreeSet<&str> = quoted(&map.text).collect();
    let mut findings = Vec::new();
    for module in modules(files) {
        let forms = [
            format!("{module}.rs"),
            format!("{module}/"),
            module.clone(),
            format!("proxyd/src/{module}.rs"),
            format!("proxyd/src/{module}/"),
        ];
        if !forms.iter().any(|form| named.contains(form.as_str())) {
            findings.push(format!("ARCHITECTURE.md: does not name the module {module}"));
        }
    }
    let exists = |path: &str| {
        let path = path.trim_end_matches('/');
        let roots = ["", "proxyd/src/", "proxyd/crates/", "proxyd/"];
        roots.iter().any(|root| {
            let whole = format!("{root}{path}");
            let below = format!("{whole}/");
            files.iter().any(|file| file.path == whole || file.path.starts_with(&below))
        })
    };
    let is_path = |text: &&&str| {
        text.contains('/')
            && !text.starts_with('/')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c))
    };
    for path in named.iter().filter(is_path) {
        if !exists(path) {
            findings.push(format!("ARCHITECTURE.md: names {path}, which does not exist"));
        }
    }
    findings
}

/// The words between backticks, outside of fenced blocks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2))
}

/// The top modules of the daemon.
fn modules(files: &[File]) -> BTreeSet<String> {
    files
        .iter()
        .filter_map(|file| file.path.strip_prefix("proxyd/src/"))
        .filter_map(|path| match path.split_once('/') {
            Some((directory, _)) => Some(directory.to_owned()),
            None => path.strip_suffix(".rs").map(str::to_owned),
        })
        .filter(|module| module != "lib" && module != "main")
        .collect()
}

/// A module imports only modules of lower layers, as ARCHITECTURE.md lists them.
fn layers(files: &[File]) -> Vec<String> {
    let Some(map) = files.iter().find(|file| file.path == "ARCHITECTURE.md") else {
        return Vec::new();
    };
    let layers = layer_table(&map.text);
    if layers.is_empty() {
        return vec!["ARCHITECTURE.md: has no table `| layer | modules |`".to_owned()];
    }
    let mut findings = Vec::new();
    for module in modules(files) {
        if !layers.contains_key(module.as_str()) {
            findings.push(format!("ARCHITECTURE.md: {module} is in no layer"));
        }
    }
    for file in rust(files) {
        let Some(path) = file.path.strip_prefix("proxyd/src/") else { continue };
        let module = path.split(['/', '.']).next().unwrap_or_default();
        let Some(own) = layers.get(module) else { continue };
        for (index, line) in file.text.lines().enumerate() {
            let imported = imported(line);
            for other in imported.filter(|other| *other != module) {
                if layers.get(other).is_some_and(|layer| layer >= own) {
                    let at = index + 1;
                    findings.push(format!("{}:{at}: {module} must not use {other}", file.path));
                }
            }
        }
    }
    findings
}

/// The top modules that a `use crate::…` line names.
fn imported(line: &str) -> impl Iterator<Item = &str> {
    let path = line.trim_start().strip_prefix("use crate::").unwrap_or_default();
    let (list, one) = match path.strip_prefix('{') {
        Some(list) => (list, ""),
        None => ("", path),
    };
    let names = list.trim_end_matches("};").split(',').chain(std::iter::once(one));
    names
        .map(|name| name.trim().split([':', ';', ' ']).next().unwrap_or_default())
        .filter(|name| !name.is_empty())
}

/// Layer of each module, from the table with the header `| layer | modules |`.
fn layer_table(text: &str) -> BTreeMap<&str, u32> {
    let rows = text.lines().skip_while(|line| !line.starts_with("| layer | modules |")).skip(2);
    let mut layers = BTreeMap::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let mut cells = row.trim_matches('|').split('|');
        let Some(layer) = cells.next().and_then(|cell| cell.trim().parse().ok()) else { continue };
        for module in cells.next().into_iter().flat_map(quoted) {
            layers.insert(module, layer);
        }
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn each_rule_finds_what_it_is_for() {
        let long = format!("//! x\n// {}\n", "y ".repeat(LINE_COLUMNS_MAX));
        let cases: [(&str, fn(&[File]) -> Vec<String>, File); 7] = [
            ("no header", headers, file("a.rs", "fn main() {}\n")),
            ("long line", sizes, file("a.rs", &long)),
            ("ignored", attributes, file("a.rs", concat!("#[", "ignore]"))),
            ("leftover", todos, file("a.rs", concat!("// TO", "DO later"))),
            ("sleep", sleeps, file("tests/it/a.rs", concat!("sleep", "(1)"))),
            ("queue", queues, file("a.rs", concat!("mpsc::", "channel(8)"))),
            ("lints", lints_inherited, file("a/Cargo.toml", "[package]")),
        ];
        for (case, rule, bad) in cases {
            assert_eq!(rule(&[bad]).len(), 1, "{case}");
            assert!(rule(&[file("a.rs", "//! Fine.\n")]).is_empty(), "{case}");
        }
    }

    #[test]
    fn an_unwanted_crate_is_found() {
        assert!(unwanted("proxyd v0.1.0 (/here)\nrussh-keys v1.0.0\n").is_empty());
        assert_eq!(unwanted("proxyd v0.1.0 (/here)\nrsa v0.9.8\nrsa v0.9.8 (*)\n").len(), 1);
    }

    #[test]
    fn an_import_upwards_is_found() {
        let map = "| layer | modules |\n|---|---|\n| 1 | `clock` |\n| 2 | `net` |\n";
        let files = [
            file("ARCHITECTURE.md", map),
            file("proxyd/src/clock.rs", "use crate::net::listen;\n"),
            file("proxyd/src/net/mod.rs", "use crate::{clock, net};\n"),
        ];
        let found = layers(&files);
        assert_eq!(found, ["proxyd/src/clock.rs:1: clock must not use net"]);
    }

    #[test]
    fn a_map_names_what_is_there() {
        let files = [
            file("ARCHITECTURE.md", "`clock.rs` and `proxyd/src/gone.rs`"),
            file("proxyd/src/clock.rs", ""),
            file("proxyd/src/net/mod.rs", ""),
        ];
        assert_eq!(code_map(&files).len(), 2);
    }
}
