//! Forwarding of unmatched SYNs past the kernel's own tools, and past a program that does nothing.

use std::collections::BTreeMap;

use anyhow::Result;
use nix::net::if_::if_nametoindex;

use super::assemble;
use super::bpf::{Kind, Program};
use super::inject::Track;
use super::rulesets::Ruleset;
use super::topology::CLIENT_INTERFACE;
use super::{Bench, LINEAR_MAX, RANGES_MAX};
use crate::bench::report::Report;

/// What is compared with.
const RULESETS: [Ruleset; 13] = [
    Ruleset::NftLinear(100),
    Ruleset::NftLinear(1000),
    Ruleset::NftLinear(LINEAR_MAX),
    Ruleset::NftInterval(1000),
    Ruleset::NftInterval(10_000),
    Ruleset::NftInterval(RANGES_MAX),
    Ruleset::NftConcatenated(1000),
    Ruleset::NftConcatenated(10_000),
    Ruleset::NftConcatenated(RANGES_MAX),
    Ruleset::IpSet(1000),
    Ruleset::IpSet(10_000),
    Ruleset::IpSet(RANGES_MAX),
    Ruleset::Tproxy,
];

/// What the kernel's own tools add to an unmatched SYN of one flow, in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Theirs {
    /// [`LINEAR_MAX`] rules of nftables.
    pub(super) linear: Option<f64>,
    /// The better kind of set of nftables, by its size.
    pub(super) best_nft_set: BTreeMap<u32, f64>,
}

/// Measures all of them.
pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<Theirs> {
    empty_program(bench, report)?;
    let mut theirs = Theirs::default();
    for ruleset in RULESETS {
        let track = Track::new()?;
        ruleset.apply(&track.lab, &bench.scratch)?;
        let name = ruleset.name();
        let tracks = (&bench.baseline, &track);
        let added_ns = bench.syn.report("SYN, 1 flow", &name, tracks, report)?.added_ns;
        bench.syn_of_many.report("SYN, 4096 flows", &name, tracks, report)?;
        if ruleset == Ruleset::NftLinear(LINEAR_MAX) {
            theirs.linear = Some(added_ns);
        }
        if let Some(size) = ruleset.nft_set_size() {
            let best = theirs.best_nft_set.entry(size).or_insert(f64::INFINITY);
            *best = best.min(added_ns);
        }
    }
    Ok(theirs)
}

fn empty_program(bench: &Bench, report: &mut Report) -> Result<()> {
    let track = Track::new()?;
    let program = Program::load(Kind::Classifier, &assemble::empty_classifier())?;
    let _link = track.lab.gateway.inside(|| program.attach(if_nametoindex(CLIENT_INTERFACE)?))?;
    let tracks = (&bench.baseline, &track);
    bench.syn.report("SYN, 1 flow", "empty program on TCX", tracks, report).map(drop)
}
