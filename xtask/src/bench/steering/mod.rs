//! Steering: what it adds to a packet, beside the kernel alone and the kernel's own tools.
//!
//! `docs/benchmarks.md` says how it is measured and how to read it.

mod assemble;
mod bpf;
mod bulk;
mod change;
mod connections;
mod frames;
mod gateway;
mod inject;
mod memory;
mod ours;
mod rulesets;
mod test_run;
mod theirs;
mod topology;
mod verifier;

use anyhow::Result;
use e2e::world::Family;

use self::frames::{FLOWS_MASK, Frame, Packet, unmatched_server};
use self::inject::{Injector, Track};
use self::ours::Ours;
use self::theirs::Theirs;
use self::topology::{CLIENT_V4, Scratch};
use super::report::Report;

pub(super) use self::verifier::record as record_verifier;

/// The largest table: what the figures that versions are compared by are taken at.
const RANGES_MAX: u32 = 100_000;

/// The smallest table, by which its growth is told.
const RANGES_MIN: u32 = 10;

/// Most policies.
const POLICIES_MAX: u32 = 16_000;

/// Most rules of nftables one after the other.
const LINEAR_MAX: u32 = 5000;

/// What is sent, and the kernel alone.
struct Bench {
    scratch: Scratch,
    /// Forwards, and does nothing else.
    baseline: Track,
    /// Unmatched SYNs of one flow.
    syn: Injector,
    /// Unmatched SYNs of many flows.
    syn_of_many: Injector,
    /// Unmatched segments of many connections that are there.
    ack_of_many: Injector,
}

impl Bench {
    fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let frame = |packet| Frame::new(packet, CLIENT_V4.into(), unmatched_server(Family::V4, 0));
        Ok(Self {
            scratch,
            baseline: Track::new()?,
            syn: Injector::new(frame(Packet::Syn), 0)?,
            syn_of_many: Injector::new(frame(Packet::Syn), FLOWS_MASK)?,
            ack_of_many: Injector::new(frame(Packet::Ack), FLOWS_MASK)?,
        })
    }
}

/// What versions of the gateway are compared by.
const SUMMARY: [&str; 13] = [
    "syn_v4_100k_added_ns",
    "syn_v6_100k_added_ns",
    "other_packet_added_ns",
    "flatness_10_to_100k",
    "times_faster_than_nft_linear_5k",
    "times_faster_than_best_nft_set",
    "unmatched_bulk_tcp_ratio",
    "unmatched_pps_ratio",
    "fast_path_tc_ratio",
    "fast_path_xdp_ratio",
    "reload_failed_connections",
    "upgrade_failed_connections",
    "verifier_instructions",
];

/// Measures everything; what was found before a failure is in the report all the same.
pub(super) fn measure(report: &mut Report) -> Result<()> {
    for key in SUMMARY {
        report.summarize(key, None);
    }
    let instructions = verifier::measure(report)?;
    report.summarize("verifier_instructions", instructions);
    let bench = Bench::new()?;
    let ours = ours::measure(&bench, report)?;
    let theirs = theirs::measure(&bench, report)?;
    summarize(&ours, &theirs, report);
    bulk::measure(&bench.scratch, report)?;
    connections::measure(&bench.scratch, report)?;
    change::measure(&bench.scratch, report)
}

fn summarize(ours: &Ours, theirs: &Theirs, report: &mut Report) {
    let v4 = ours.syn_v4.get(&RANGES_MAX).copied();
    let v6 = ours.syn_v6.get(&RANGES_MAX).copied();
    report.summarize("syn_v4_100k_added_ns", v4);
    report.summarize("syn_v6_100k_added_ns", v6);
    report.summarize("other_packet_added_ns", ours.other);
    let growth = |of: &ours::Sizes| Some(of.get(&RANGES_MAX)? / of.get(&RANGES_MIN)?);
    let growths = growth(&ours.syn_v4).zip(growth(&ours.syn_v6));
    report.summarize("flatness_10_to_100k", growths.map(|(v4, v6)| v4.max(v6)));
    let ours_ns = ours.forwarded_syn.get(&RANGES_MAX).zip(ours.forwarded_syn_of_policies.as_ref());
    let ours_ns = ours_ns.map(|(ranges, policies)| ranges.max(*policies));
    report.summarize(
        "times_faster_than_nft_linear_5k",
        theirs.linear.zip(ours_ns).map(|(theirs, ours)| theirs / ours),
    );
    let times: Option<Vec<f64>> = theirs
        .best_nft_set
        .iter()
        .map(|(size, theirs)| Some(theirs / ours.forwarded_syn.get(size)?))
        .collect();
    let smallest = times.and_then(|times| times.into_iter().reduce(f64::min));
    report.summarize("times_faster_than_best_nft_set", smallest);
    report.summarize("unmatched_pps_ratio", ours.forwarded_ratio);
    report.summarize("fast_path_tc_ratio", ours.tc_ratio);
    report.summarize("fast_path_xdp_ratio", ours.xdp_ratio);
}
