//! `proxyd check`: reads a configuration file and reports everything that is wrong with it.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, LoadError};
use crate::steering;

/// Check a configuration file.
///
/// Reports all errors of the file together, each with its line and key. Nothing is loaded or
/// changed. Exits with 0 when the file can be used, with 1 when it cannot.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  proxyd check /etc/proxyd/proxyd.toml
  proxyd check --effective proxyd.toml    # with every default written out")]
pub(super) struct CheckArgs {
    /// Print the whole configuration with its defaults, without secrets
    #[arg(long)]
    pub effective: bool,

    /// The configuration file
    pub file: PathBuf,
}

/// Runs `proxyd check`; the configuration goes to `out`, problems go to `problems`.
///
/// # Errors
/// Fails when either cannot be written to.
pub(super) fn run(
    args: &CheckArgs,
    out: &mut impl io::Write,
    problems: &mut impl io::Write,
) -> io::Result<ExitCode> {
    let config = match config::load(&args.file) {
        Ok(config) => config,
        Err(error) => {
            write_load_error(&error, problems)?;
            return Ok(ExitCode::FAILURE);
        }
    };
    if !config.warnings.problems().is_empty() {
        writeln!(problems, "{}", config.warnings)?;
    }
    if let Err(error) = steering::plan::check(&config.steering, &config.policy) {
        writeln!(problems, "error: {error}")?;
        return Ok(ExitCode::FAILURE);
    }
    if args.effective {
        write!(out, "{}", config.effective)?;
    } else {
        let policies = config.policy.connection_policies.len();
        writeln!(out, "{}: ok, {policies} connection policies", args.file.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes why a file was not loaded, with the causes below it.
pub(super) fn write_load_error(error: &LoadError, to: &mut impl io::Write) -> io::Result<()> {
    write!(to, "{error}")?;
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        write!(to, ": {inner}")?;
        cause = inner.source();
    }
    writeln!(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_on(text: &str, effective: bool) -> (ExitCode, String, String) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("proxyd.toml");
        std::fs::write(&file, text).unwrap();
        let (mut out, mut problems) = (Vec::new(), Vec::new());
        let code = run(&CheckArgs { effective, file }, &mut out, &mut problems).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(problems).unwrap())
    }

    const EMPTY_ROUTER: &str = "[steering]\nclient_interfaces = [\"lan0\"]\n";

    #[test]
    fn a_usable_file() {
        let (code, out, problems) = run_on(EMPTY_ROUTER, false);
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
        assert!(out.ends_with("proxyd.toml: ok, 0 connection policies\n"), "{out}");
        assert!(problems.contains("nothing is inspected"), "{problems}");
    }

    #[test]
    fn effective_shows_defaults() {
        let (_, out, _) = run_on(EMPTY_ROUTER, true);
        assert!(out.contains("[limits]\nsessions = 20000\n"), "{out}");
        assert!(out.contains("client_interfaces = [\"lan0\"]\n"), "{out}");
    }

    #[test]
    fn an_unusable_file() {
        let (code, out, problems) = run_on("[limits]\nsessions = 0\n", false);
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(out, "");
        assert!(problems.contains("limits.sessions: 0 is not an integer from 1"), "{problems}");
        assert!(problems.contains("proxyd.toml:2:12"), "{problems}");
    }

    #[test]
    fn a_missing_file() {
        let args = CheckArgs { effective: false, file: "/nonexistent/proxyd.toml".into() };
        let mut problems = Vec::new();
        let code = run(&args, &mut Vec::new(), &mut problems).unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
        let problems = String::from_utf8(problems).unwrap();
        assert!(problems.starts_with("cannot read /nonexistent/proxyd.toml: "), "{problems}");
    }
}
