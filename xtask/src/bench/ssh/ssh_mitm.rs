//! ssh-mitm on the gateway, in a Python environment of its own.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use e2e::peer::sshd;
use e2e::process::{Process, output};
use e2e::wait::wait_until;
use e2e::world::{Family, Host, World};

use crate::ebpf;

/// Where it listens.
pub(super) const PORT: u16 = 2201;

/// The release that is compared.
const PACKAGE: &str = "ssh-mitm==6.0.1";

/// How long it may take to make its keys and listen.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Installs it below the target directory, where it is not there yet; gives its program.
pub(super) fn install() -> Result<PathBuf> {
    let environment = ebpf::target_directory()?.join("bench/ssh-mitm");
    let program = environment.join("bin/ssh-mitm");
    if !program.exists() {
        println!("{PACKAGE} is installed in {}", environment.display());
        output(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        output(Command::new(environment.join("bin/pip")).args(["install", "--quiet", PACKAGE]))?;
    }
    Ok(program)
}

/// Starts it towards the server: it hands on the password it is given. One of its workarounds for
/// odd clients is a message that OpenSSH's refuses, so it goes without them.
pub(super) fn start(world: &World, program: &PathBuf) -> Result<Process> {
    let directory = world.subdirectory("ssh-mitm")?;
    let (listen, server) = (Host::GatewayForClient, Host::Server);
    let (listen, server) = (world.address(listen, Family::V4), world.address(server, Family::V4));
    let mut command = world.gateway.command(program);
    command.args(["--disable-workarounds", "server"]);
    command.args(["--listen-address", &listen.to_string()]);
    command.args(["--listen-port", &PORT.to_string(), "--remote-host", &server.to_string()]);
    command.args(["--remote-port", &sshd::UNMATCHED_PORT.to_string()]);
    command.env("HOME", &directory).current_dir(&directory);
    let process = Process::start(&mut command, "ssh-mitm", &directory)?;
    let to = SocketAddr::new(listen, PORT);
    let listens = || {
        let connected = world.client.inside(|| TcpStream::connect_timeout(&to, START_LIMIT));
        connected.is_ok_and(|stream| stream.is_ok())
    };
    wait_until("ssh-mitm to listen", START_LIMIT, listens)?;
    Ok(process)
}
