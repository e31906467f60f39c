//! `proxyd explain`: says which connection policy decides about a connection, and why.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use proxyd_policy::admit::{Explanation, Mismatch};
use proxyd_policy::connection::ConnectionPolicy;
use proxyd_policy::gateway::GatewayAuthentication;
use proxyd_policy::target::TargetPolicy;
use proxyd_policy::{Flow, PolicySet};

use super::check::write_load_error;
use crate::config;

/// Say which connection policy matches a connection, and why the earlier ones do not.
///
/// Exits with 0 when a policy matches; with 2 when none does, so that the connection would pass
/// uninspected; with 1 when the file has errors.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  proxyd explain --config proxyd.toml --from 10.1.0.5 --to 10.2.0.9:22
  proxyd explain --config proxyd.toml --from fd00:1::5 --to '[fd00:2::9]:2222'")]
pub(super) struct ExplainArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    pub config: PathBuf,

    /// The address of the client
    #[arg(long, value_name = "ADDRESS")]
    pub from: IpAddr,

    /// The address and port that the client connects to
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub to: SocketAddr,
}

/// The exit code when no policy matches.
const NO_MATCH: u8 = 2;

/// Any port; which one a client connects from makes no difference.
const CLIENT_PORT: u16 = 0;

/// Runs `proxyd explain`; the answer goes to `out`, problems of the file go to `problems`.
///
/// # Errors
/// Fails when either cannot be written to.
pub(super) fn run(
    args: &ExplainArgs,
    out: &mut impl io::Write,
    problems: &mut impl io::Write,
) -> io::Result<ExitCode> {
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(error) => {
            write_load_error(&error, problems)?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let flow =
        Flow { client: SocketAddr::new(args.from, CLIENT_PORT), original_destination: args.to };
    let matched = explain(&config.policy, &flow, out)?;
    Ok(if matched { ExitCode::SUCCESS } else { ExitCode::from(NO_MATCH) })
}

/// Writes one line per policy asked, then what the one that matches asks for.
fn explain(policies: &PolicySet, flow: &Flow, out: &mut impl io::Write) -> io::Result<bool> {
    let explanations = policies.explain(flow);
    for explanation in &explanations {
        writeln!(out, "{}", line(explanation, flow))?;
    }
    match explanations.last().filter(|last| last.mismatches.is_empty()) {
        Some(matched) => {
            write_policy(&matched.policy, out)?;
            Ok(true)
        }
        None => {
            writeln!(out, "no connection policy matches: the connection passes uninspected")?;
            Ok(false)
        }
    }
}

/// What one policy says to the flow.
fn line(explanation: &Explanation, flow: &Flow) -> String {
    let policy = &explanation.policy;
    if explanation.mismatches.is_empty() {
        return format!("{}: matches", policy.name);
    }
    let reasons: Vec<String> = explanation
        .mismatches
        .iter()
        .map(|mismatch| match mismatch {
            Mismatch::Client => {
                format!("client {} is not in from = [{}]", flow.client.ip(), list(&policy.from))
            }
            Mismatch::Destination => {
                let address = flow.original_destination.ip();
                format!("destination {address} is not in to = [{}]", list(&policy.to))
            }
            Mismatch::Port => {
                let port = flow.original_destination.port();
                format!("port {port} is not in ports = [{}]", list(&policy.ports))
            }
        })
        .collect();
    format!("{}: does not match: {}", policy.name, reasons.join("; "))
}

/// Items of a list that a line shows before it stops.
const ITEMS_MAX: usize = 8;

/// The items of a list, cut after [`ITEMS_MAX`].
fn list<T: ToString>(items: &[T]) -> String {
    let mut shown: Vec<String> = items.iter().take(ITEMS_MAX).map(T::to_string).collect();
    if items.len() > ITEMS_MAX {
        shown.push(format!("and {} more", items.len() - ITEMS_MAX));
    }
    shown.join(", ")
}

/// What the policy that matches asks for.
fn write_policy(policy: &ConnectionPolicy, out: &mut impl io::Write) -> io::Result<()> {
    let target = match &policy.target {
        TargetPolicy::Original => "the address the client connects to".to_owned(),
        TargetPolicy::Fixed { host, port } => format!("{host}, port {port}"),
        TargetPolicy::Inband(targets) => {
            format!("named by the user, among: {}", list(&targets.allowed))
        }
    };
    let gateway = match &policy.authentication.gateway {
        GatewayAuthentication::None => "no gateway authentication",
        GatewayAuthentication::AnyOf(_) | GatewayAuthentication::AllOf(_) => {
            "gateway authentication"
        }
    };
    let usermapping = policy.usermapping.as_ref().map(|usermapping| usermapping.name.as_str());
    let audit = policy.audit.as_ref().map(|audit| audit.name.as_str());
    writeln!(out, "  protocol        {}", policy.protocol.as_str())?;
    writeln!(out, "  target          {target}")?;
    writeln!(out, "  authentication  {}: {gateway}", policy.authentication.name)?;
    writeln!(out, "  usermapping     {}", usermapping.unwrap_or("none: under the same name only"))?;
    writeln!(out, "  channels        {}", policy.channels.name)?;
    writeln!(out, "  settings        {}", policy.settings.name)?;
    writeln!(out, "  audit           {}", audit.unwrap_or("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[steering]
client_interfaces = ["lan0"]
server_interfaces = ["wan0"]

[[authentication_policy]]
name = "relayed"
gateway = "none"

[[channel_policy]]
name = "shell"
rule = [{ type = "session-shell", record = false }]

[[connection_policy]]
name = "other-port"
protocol = "ssh"
from = ["10.1.0.0/16"]
to = ["10.2.0.0/16"]
ports = ["2200-2299"]
authentication = "relayed"
channels = "shell"

[[connection_policy]]
name = "admins"
protocol = "ssh"
from = ["10.1.0.0/16"]
to = ["10.2.0.0/16"]
ports = ["22"]
authentication = "relayed"
channels = "shell"
"#;

    fn run_on(from: &str, to: &str) -> (ExitCode, String) {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("proxyd.toml");
        std::fs::write(&config, FILE).unwrap();
        let args = ExplainArgs { config, from: from.parse().unwrap(), to: to.parse().unwrap() };
        let (mut out, mut problems) = (Vec::new(), Vec::new());
        let code = run(&args, &mut out, &mut problems).unwrap();
        assert_eq!(String::from_utf8(problems).unwrap(), "");
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn says_why_earlier_policies_do_not_match() {
        let (code, out) = run_on("10.1.0.5", "10.2.0.9:22");
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
        let lines: Vec<&str> = out.lines().take(2).collect();
        let expected = [
            "other-port: does not match: port 22 is not in ports = [2200-2299]",
            "admins: matches",
        ];
        assert_eq!(lines, expected);
        assert!(out.contains("authentication  relayed: no gateway authentication"), "{out}");
    }

    #[test]
    fn says_when_nothing_matches() {
        let (code, out) = run_on("10.9.0.5", "10.9.0.9:22");
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(NO_MATCH)));
        let last = "no connection policy matches: the connection passes uninspected";
        assert_eq!(out.lines().last(), Some(last));
        let client = "client 10.9.0.5 is not in from = [10.1.0.0/16]";
        assert_eq!(out.matches(client).count(), 2, "{out}");
    }
}
