//! The same policies as rules of the kernel's own tools. No measured packet matches them.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use e2e::process::output;
use e2e::world::Family;

use super::frames::{PORT, Range, Side, ranges};
use super::gateway::Table;
use super::topology::{Lab, ROUTE_MARK, Scratch};

/// A way to say which connections match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruleset {
    /// `nft`: this many rules, one after the other.
    NftLinear(u32),
    /// `nft`: a rule with two sets of ranges, this many in both together.
    NftInterval(u32),
    /// `nft`: a rule with one set, each element a range of clients, one of servers and a port;
    /// this many ranges in all of them.
    NftConcatenated(u32),
    /// `iptables` with two sets of `ipset`, this many ranges in both together.
    IpSet(u32),
    /// `nft`: a rule that gives one server's connections to a transparent listener.
    Tproxy,
}

impl Ruleset {
    /// How it is called in the report.
    pub(super) fn name(self) -> String {
        match self {
            Self::NftLinear(count) => format!("nft linear, {count}"),
            Self::NftInterval(count) => format!("nft interval sets, {count}"),
            Self::NftConcatenated(count) => format!("nft concatenated set, {count}"),
            Self::IpSet(count) => format!("ipset + iptables, {count}"),
            Self::Tproxy => "nft tproxy".to_owned(),
        }
    }

    /// How many ranges a set of nftables holds; none where it is no such set.
    pub(super) const fn nft_set_size(self) -> Option<u32> {
        match self {
            Self::NftInterval(count) | Self::NftConcatenated(count) => Some(count),
            Self::NftLinear(_) | Self::IpSet(_) | Self::Tproxy => None,
        }
    }

    /// Puts it in force in a lab's gateway.
    pub(super) fn apply(self, lab: &Lab, scratch: &Scratch) -> Result<()> {
        match self {
            Self::NftLinear(count) => nft(lab, scratch, &linear(count)),
            Self::NftInterval(count) => nft(lab, scratch, &interval(count)),
            Self::NftConcatenated(count) => nft(lab, scratch, &concatenated(count)),
            Self::Tproxy => nft(lab, scratch, &tproxy("10.77.2.2", 1)),
            Self::IpSet(count) => ipset(lab, scratch, count),
        }
    }
}

/// Rules that give connections to `server` to the transparent listener on a local port.
pub(super) fn tproxy(server: &str, listener: u16) -> String {
    format!(
        "table ip bench {{\n chain prerouting {{\n\
         type filter hook prerouting priority mangle;\n\
         tcp dport {PORT} socket transparent 1 meta mark set {ROUTE_MARK} accept\n\
         ip daddr {server} tcp dport {PORT} tproxy to 127.0.0.1:{listener} \
         meta mark set {ROUTE_MARK} accept\n }}\n}}\n"
    )
}

/// Puts rules of `nft` in force.
pub(super) fn nft(lab: &Lab, scratch: &Scratch, rules: &str) -> Result<()> {
    let path = scratch.path().join("rules");
    fs::write(&path, rules)?;
    output(lab.gateway.command("nft").arg("-f").arg(&path)).map(drop)
}

fn forward_chain(sets: &str, rules: &str) -> String {
    format!(
        "table ip bench {{\n{sets} chain forward {{\n type filter hook forward priority filter;\n\
         {rules} }}\n}}\n"
    )
}

fn linear(count: u32) -> String {
    let rules = (0..count).map(|index| {
        let (clients, servers) = Table::policy(Family::V4, index);
        format!("ip saddr {clients} ip daddr {servers} tcp dport {PORT} counter accept\n")
    });
    forward_chain("", &rules.collect::<String>())
}

fn interval(count: u32) -> String {
    let clients = interval_set("clients", ranges(Family::V4, Side::Client, count / 2));
    let servers = interval_set("servers", ranges(Family::V4, Side::Server, count / 2));
    let rule = format!("ip saddr @clients ip daddr @servers tcp dport {PORT} counter accept\n");
    forward_chain(&(clients + &servers), &rule)
}

fn interval_set(name: &str, ranges: impl Iterator<Item = Range>) -> String {
    let elements: Vec<_> = ranges.map(|range| range.to_string()).collect();
    let elements = elements.join(", ");
    format!(" set {name} {{ type ipv4_addr; flags interval; elements = {{ {elements} }} }}\n")
}

fn concatenated(count: u32) -> String {
    let clients = ranges(Family::V4, Side::Client, count / 2);
    let servers = ranges(Family::V4, Side::Server, count / 2);
    let elements = clients.zip(servers).map(|(one, other)| format!("{one} . {other} . {PORT}"));
    let elements = elements.collect::<Vec<_>>().join(", ");
    let set = format!(
        " set triples {{ type ipv4_addr . ipv4_addr . inet_service; flags interval; \
         elements = {{ {elements} }} }}\n"
    );
    forward_chain(&set, "ip saddr . ip daddr . tcp dport @triples counter accept\n")
}

fn ipset(lab: &Lab, scratch: &Scratch, count: u32) -> Result<()> {
    let mut text = String::new();
    for (name, side) in [("clients", Side::Client), ("servers", Side::Server)] {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "create {name} hash:net maxelem {count}");
        for range in ranges(Family::V4, side, count / 2) {
            let _infallible = writeln!(text, "add {name} {range}");
        }
    }
    let path = scratch.path().join("sets");
    fs::write(&path, text)?;
    output(lab.gateway.command("ipset").arg("restore").arg("-file").arg(&path))?;
    let rule = format!(
        "-A FORWARD -p tcp --dport {PORT} -m set --match-set clients src \
         -m set --match-set servers dst -j ACCEPT"
    );
    lab.gateway.run("iptables", &rule).map(drop)
}
