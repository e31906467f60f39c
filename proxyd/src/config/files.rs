//! File policies: from their sections to the policy model, with what makes a rule pointless.

use proxyd_policy::files::{FileAccess, FileAction, FilePolicy, FileRule};

use super::file;
use super::report::Problems;
use super::value::Size;

/// What a limit of bytes applies to.
const LIMITED: [FileAccess; 2] = [FileAccess::Read, FileAccess::Write];

/// One file policy; notes rules that can do nothing.
pub(super) fn policy(section: &file::Files, problems: &mut Problems) -> Option<FilePolicy> {
    let sections = &section.rule.get()?.0;
    // Every rule is looked at before giving up, so that each problem is noted.
    let rules: Vec<Option<FileRule>> =
        sections.iter().map(|section| rule(section, problems)).collect();
    let mut decided = Vec::new();
    for (section, rule) in sections.iter().zip(&rules) {
        let Some(rule) = rule else { continue };
        check_order(section, rule, &decided, problems);
        if rule.paths.is_empty() {
            decided.extend_from_slice(&rule.operations);
        }
    }
    let rules = rules.into_iter().collect::<Option<_>>()?;
    Some(FilePolicy { name: section.name.get()?.0.clone(), rules })
}

fn rule(section: &file::FileRule, problems: &mut Problems) -> Option<FileRule> {
    let (field, Size(bytes_max)) = (&section.max_bytes, *section.max_bytes.get()?);
    let operations = &section.operations.get()?.0;
    let paths = section.paths.get()?;
    let action = *section.action.get()?;
    if bytes_max > 0 && action == FileAction::Refuse {
        let message = "is a limit of what is allowed, and this rule refuses";
        problems.error(&field.span, &field.key, message);
        return None;
    }
    if bytes_max > 0 && !operations.iter().any(|operation| LIMITED.contains(operation)) {
        let message = "is a limit of reading and writing, and this rule allows neither";
        problems.error(&field.span, &field.key, message);
        return None;
    }
    if !paths.is_empty() && action == FileAction::Allow && *operations == [FileAccess::Other] {
        let field = &section.paths;
        let message = "no path of \"other\" operations is known, so that this rule allows nothing";
        problems.error(&field.span, &field.key, message);
        return None;
    }
    Some(FileRule {
        operations: operations.clone(),
        paths: paths.clone(),
        bytes_max: (bytes_max > 0).then_some(bytes_max),
        action,
    })
}

/// Notes a rule about operations that were all `decided` about by earlier ones, on every path.
fn check_order(
    section: &file::FileRule,
    rule: &FileRule,
    decided: &[FileAccess],
    problems: &mut Problems,
) {
    if rule.operations.iter().all(|operation| decided.contains(operation)) {
        let field = &section.operations;
        let message = "earlier rules decide about all of these on every path";
        problems.warning(&field.span, &field.key, message);
    }
}
