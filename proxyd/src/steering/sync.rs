//! A generation: the programs, loaded with a table of their own.
//!
//! A new table never changes the one in use. It comes with a new load of the programs, is filled
//! and checked, and takes effect on each hook when the kernel exchanges the programs there, which
//! it does between two packets. The old table goes with the last hook that ran it.

use std::net::IpAddr;

use aya::Ebpf;
use steering_common::compile::{Room, compile};
use steering_common::layout::InForce;
use steering_common::rule::Rule;

use super::SteeringError;
use super::load::{self, Pins, Program};
use super::{probe, table};

/// Programs that are loaded, with their table filled and checked.
pub(crate) struct Generation {
    /// The programs.
    pub(crate) ebpf: Ebpf,
    /// What the table holds.
    pub(crate) sizes: InForce,
}

/// Loads the programs with the table of `rules`, on a host with the addresses `host`. Nothing that
/// runs is changed.
pub(crate) fn build(
    pins: &Pins,
    rules: &[Rule],
    host: &[IpAddr],
    room: Room,
) -> Result<Generation, SteeringError> {
    let compiled = compile(rules, host, room).map_err(SteeringError::Compile)?;
    let mut ebpf = load::load(pins, &compiled)?;
    table::fill(&mut ebpf, &compiled)?;
    probe::check(load::find(&mut ebpf, Program::Judge)?, rules, host)?;
    Ok(Generation { ebpf, sizes: table::sizes(&compiled) })
}
