//! What steering by tables of all sizes adds to a packet: in the program alone, and on the way
//! through the gateway.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Result, anyhow};
use e2e::world::Family;

use super::frames::{FLOWS, Frame, Packet, Side, beside, range, unmatched_server};
use super::gateway::{Gateway, Table};
use super::inject::Track;
use super::memory::Maps;
use super::test_run::Measured;
use super::topology::{CLIENT_V4, CLIENT_V6};
use super::{Bench, POLICIES_MAX, RANGES_MAX, RANGES_MIN};
use crate::bench::report::Report;
use crate::bench::usage::Memory;

/// Sizes of tables that are measured for both IP versions.
const RANGES: [u32; 4] = [RANGES_MIN, 1000, 10_000, RANGES_MAX];
const POLICIES: [u32; 3] = [10, 1000, POLICIES_MAX];

/// Numbers by the size of the table.
pub(super) type Sizes = BTreeMap<u32, f64>;

/// What was found; what does not fit is not in it.
#[derive(Debug, Default)]
pub(super) struct Ours {
    /// Nanoseconds added to an unmatched IPv4 SYN of one flow, by ranges, in the program alone.
    pub(super) syn_v4: Sizes,
    /// The same for IPv6.
    pub(super) syn_v6: Sizes,
    /// Most nanoseconds added to an unmatched packet that is no SYN, with [`RANGES_MAX`].
    pub(super) other: Option<f64>,
    /// Nanoseconds added to an unmatched SYN of one flow, by ranges, on its way through.
    pub(super) forwarded_syn: Sizes,
    /// The same with [`POLICIES_MAX`].
    pub(super) forwarded_syn_of_policies: Option<f64>,
    /// Packets per second over those of the kernel alone, with [`RANGES_MAX`], of many connections.
    pub(super) forwarded_ratio: Option<f64>,
    /// The same with `fast_path = "tc"`.
    pub(super) tc_ratio: Option<f64>,
    /// The same with `fast_path = "xdp"`.
    pub(super) xdp_ratio: Option<f64>,
}

/// Measures tables of all sizes.
pub(super) fn measure(bench: &Bench, report: &mut Report) -> Result<Ours> {
    let mut ours = Ours::default();
    for count in RANGES {
        ranges(bench, report, Family::V4, count, &mut ours)?;
        ranges(bench, report, Family::V6, count, &mut ours)?;
    }
    for count in POLICIES {
        policies(bench, report, count, &mut ours)?;
    }
    ours.tc_ratio = fast_path(bench, report, "tc")?;
    ours.xdp_ratio = fast_path(bench, report, "xdp")?;
    Ok(ours)
}

fn ranges(
    bench: &Bench,
    report: &mut Report,
    family: Family,
    count: u32,
    ours: &mut Ours,
) -> Result<()> {
    let table = Table::Ranges(family, count);
    let track = Track::new()?;
    let Some(_gateway) = steer(bench, report, &track, table)? else { return Ok(()) };
    let subject = subject(table);
    in_program(&Measured::of(&track.lab)?, report, (family, count), &subject, ours)?;
    if family == Family::V4 {
        let tracks = (&bench.baseline, &track);
        let syn = bench.syn.report("SYN, 1 flow", &subject, tracks, report)?;
        ours.forwarded_syn.insert(count, syn.added_ns);
        bench.syn_of_many.report("SYN, 4096 flows", &subject, tracks, report)?;
        let ack = bench.ack_of_many.report("ACK, 4096 flows", &subject, tracks, report)?;
        if count == RANGES_MAX {
            ours.forwarded_ratio = Some(ack.baseline_ns / ack.subject_ns);
        }
    }
    Ok(())
}

fn in_program(
    measured: &Measured<'_>,
    report: &mut Report,
    (family, count): (Family, u32),
    subject: &str,
    ours: &mut Ours,
) -> Result<()> {
    let (name, syns) = match family {
        Family::V4 => ("v4", &mut ours.syn_v4),
        Family::V6 => ("v6", &mut ours.syn_v6),
    };
    let mut tell = |case: &str, added_ns| {
        tell_program(report, &format!("program, {name} {case}"), subject, added_ns);
    };
    let matching = |index| {
        let [client, server] = [Side::Client, Side::Server].map(|side| range(family, side, index));
        measured.added_ns(&Frame::new(Packet::Syn, client.address, server.address))
    };
    let unmatched =
        |packet, flow| Frame::new(packet, client(family), unmatched_server(family, flow));
    tell("SYN, first match, 1 flow", matching(0)?);
    tell("SYN, last match, 1 flow", matching(count / 2 - 1)?);
    let syn_ns = measured.added_ns(&unmatched(Packet::Syn, 0))?;
    tell("SYN, no match, 1 flow", syn_ns);
    syns.insert(count, syn_ns);
    let many: Vec<_> = (0..FLOWS).map(|flow| unmatched(Packet::Syn, flow)).collect();
    tell("SYN, no match, 4096 flows", measured.added_ns_of_many(&many)?);
    let mut others = vec![("ACK, no match", Packet::Ack)];
    if family == Family::V4 {
        others.extend([("UDP", Packet::Udp), ("ARP", Packet::Arp)]);
    }
    for (case, packet) in others {
        let added_ns = measured.added_ns(&unmatched(packet, 0))?;
        tell(case, added_ns);
        if count == RANGES_MAX {
            ours.other = Some(ours.other.map_or(added_ns, |most| most.max(added_ns)));
        }
    }
    Ok(())
}

fn policies(bench: &Bench, report: &mut Report, count: u32, ours: &mut Ours) -> Result<()> {
    let table = Table::Policies(count);
    let track = Track::new()?;
    let Some(_gateway) = steer(bench, report, &track, table)? else { return Ok(()) };
    let subject = subject(table);
    let measured = Measured::of(&track.lab)?;
    for (family, name) in [(Family::V4, "v4"), (Family::V6, "v6")] {
        let matching = |index| {
            let (client, server) = Table::policy(family, index);
            Frame::new(Packet::Syn, client.address, server.address)
        };
        let unmatched = |index| Frame::new(Packet::Syn, client(family), beside(family, index));
        // Spread over all policies, each flow with a number of its own.
        let spread = |flow| u32::try_from(u64::from(flow) * u64::from(count) / u64::from(FLOWS));
        let spread = (0..FLOWS).map(spread).collect::<Result<Vec<_>, _>>()?;
        let all: Vec<_> = spread.iter().map(|index| matching(*index)).collect();
        let none: Vec<_> = spread.iter().map(|index| unmatched(*index)).collect();
        for (case, added_ns) in [
            ("first match, 1 flow", measured.added_ns(&matching(0))?),
            ("last match, 1 flow", measured.added_ns(&matching(count - 1))?),
            ("no match, 1 flow", measured.added_ns(&unmatched(0))?),
            ("match, 4096 flows", measured.added_ns_of_many(&all)?),
            ("no match, 4096 flows", measured.added_ns_of_many(&none)?),
        ] {
            tell_program(report, &format!("program, {name} SYN, {case}"), &subject, added_ns);
        }
    }
    let syn = bench.syn.report("SYN, 1 flow", &subject, (&bench.baseline, &track), report)?;
    if count == POLICIES_MAX {
        ours.forwarded_syn_of_policies = Some(syn.added_ns);
    }
    Ok(())
}

fn fast_path(bench: &Bench, report: &mut Report, path: &str) -> Result<Option<f64>> {
    let table = Table::Ranges(Family::V4, RANGES_MAX);
    let track = Track::new()?;
    // The interfaces of the lab are no network cards, but make checksums and poll as those do.
    let line = format!("fast_path = \"{path}\"\nfast_path_unchecked = true");
    let subject = format!("{}, fast path {path}", subject(table));
    let mut gateway = Gateway::new(&track.lab, &bench.scratch, path, table, &line)?;
    // Interfaces that a fast path cannot use are found at the start, or by packets that get lost.
    let measured = match gateway.refusal()? {
        Some(why) => Err(anyhow!(why)),
        None => gateway.start().and_then(|_took| {
            gateway.kill()?;
            bench.ack_of_many.report("ACK, 4096 flows", &subject, (&bench.baseline, &track), report)
        }),
    };
    match measured {
        Ok(ack) => Ok(Some(ack.baseline_ns / ack.subject_ns)),
        Err(error) => {
            println!("{subject}: {error:#}");
            report.case("forwarding, ACK, 4096 flows").missing(&subject, &format!("{error:#}"));
            Ok(None)
        }
    }
}

/// Lets the daemon steer by a table, and kills it: its programs stay, and pass what matches, too.
/// None where the table does not fit.
fn steer<'t>(
    bench: &Bench,
    report: &mut Report,
    track: &'t Track,
    table: Table,
) -> Result<Option<Gateway<'t>>> {
    let subject = subject(table);
    let name = subject.replace([' ', ','], "-");
    let mut gateway = Gateway::new(&track.lab, &bench.scratch, &name, table, "")?;
    if let Some(why) = gateway.refusal()? {
        println!("{subject}: does not fit: {why}");
        report.case("start").missing(&subject, &format!("does not fit: {why}"));
        return Ok(None);
    }
    let before = Maps::loaded()?;
    let took = gateway.start()?;
    let resident_kb = Memory::of(gateway.process()?.pid()?.as_raw())?.resident_kb;
    let maps_mib = Maps::loaded()?.added_mib(&before);
    println!("{subject}: serves after {} ms, {maps_mib:.1} MiB of maps", took.as_millis());
    let mut case = report.case("start");
    case.row(&subject, ("until it serves", "ms"), took.as_secs_f64() * 1e3);
    case.row(&subject, ("maps", "MiB"), maps_mib);
    case.row(&subject, ("rss", "kB"), resident_kb.into());
    gateway.kill()?;
    Ok(Some(gateway))
}

fn subject(table: Table) -> String {
    format!("proxyd, {}", table.name())
}

fn client(family: Family) -> IpAddr {
    match family {
        Family::V4 => CLIENT_V4.into(),
        Family::V6 => CLIENT_V6.into(),
    }
}

fn tell_program(report: &mut Report, case: &str, subject: &str, added_ns: f64) {
    println!("{case}: {subject}: {added_ns:.0} ns added");
    report.case(case).row(subject, ("added", "ns"), added_ns);
}
