//! The `proxyd` command.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Gives back what thousands of sessions have freed; see `docs/decisions/0030-allocator.md`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    proxyd::cli::main()
}
