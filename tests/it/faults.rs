//! The gateway's own troubles: a disk that is full before a session, and one that fills up during
//! one. Nothing passes unrecorded.

use std::fs;
use std::path::PathBuf;

use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::world::{Family, Host, World};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, library};

/// Bytes of the file system with the spool: a session's trail begins in it, a busy one does not
/// end in it.
const DISK_BYTES: usize = 128 * 1024;

/// A small disk of its own for the spool.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        let options = format!("size={DISK_BYTES}");
        let flags = MsFlags::empty();
        mount(Some("tmpfs"), &path, Some("tmpfs"), flags, Some(options.as_str())).unwrap();
        Self(path)
    }

    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        // The write ends where the disk does.
        fs::write(&path, vec![0; 2 * DISK_BYTES]).unwrap_err();
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn a_disk_that_is_full() {
    let world = World::router().unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "open", OPEN) + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let disk = Disk::mount(world.subdirectory("proxyd").unwrap().join("spool"));
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let mut records = Records::new(&proxyd);
    let to = world.address(Host::Server, Family::V4);
    let call = || client.ssh().arg(format!("alice@{to}")).reply(sshd::ASKS, sshd::PASSWORD);

    // No session begins that cannot be recorded; the user runs nothing.
    let filler = disk.fill();
    let marker = server.home("alice").join("marker");
    let run = call().arg("touch marker").run(LIMIT).unwrap();
    assert_eq!(run.code(), 255, "{}", run.stderr);
    assert!(run.stderr.contains("the gateway cannot serve this session"), "{}", run.stderr);
    assert!(!marker.exists(), "a command ran without a record");
    let closed = records.next();
    assert_eq!(closed.row.outcome, "failed");
    assert!(closed.row.reason.starts_with("gateway-recording"), "{}", closed.row.reason);
    assert!(closed.row.reason.contains("No space left"), "{}", closed.row.reason);
    assert_eq!(closed.events("channel"), Vec::<String>::new());

    // There is room again, and the gateway goes on as if nothing had been.
    fs::remove_file(&filler).unwrap();
    let run = call().arg("touch marker; exit 3").run(LIMIT).unwrap();
    assert_eq!(run.code(), 3, "{}", run.stderr);
    assert!(marker.exists());
    assert_eq!(records.next().row.outcome, "completed");

    // A session that outgrows the disk ends there, and its user is told.
    let random = "head -c 20000000 /dev/urandom";
    let run = call().arg(random).run(LIMIT).unwrap();
    assert_eq!(run.code(), 255, "{}", run.stderr);
    assert!(run.stderr.contains("the gateway cannot serve this session"), "{}", run.stderr);
    // What passed is what was recorded, and what was on its way to the disk.
    assert!(run.stdout.len() < 8 * DISK_BYTES, "{} bytes passed", run.stdout.len());
    let closed = records.next();
    assert_eq!(closed.row.outcome, "failed");
    assert!(closed.row.reason.starts_with("gateway-recording"), "{}", closed.row.reason);
    // What was recorded is kept.
    let key = proxyd.public_key().unwrap();
    let trail = proxyd.spooled(&closed.row.trail);
    let verified = proxyd.command(&format!("trail verify --key {key}"), &[&trail]).unwrap();
    assert!(verified.text().contains("cut at byte"), "{}", verified.text() + &verified.stderr);
}
