//! The `proxyd` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    proxyd::cli::main()
}
