//! Many mixed sessions for minutes, with the daemon's memory, threads and descriptors watched.
//!
//! Every seat runs one kind of client again and again, so that their number stays the same. A seat
//! checks what it gets, and a single thing that goes wrong fails the soak.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::process::Process;
use e2e::wait::{Stopwatch, wait_for};
use e2e::world::World;

use super::stage::Stage;
use super::subject::Subject;
use crate::bench::report::median;
use crate::bench::usage::Memory;

/// Errors of the daemon that a soak that fails tells of.
const COMPLAINTS_TOLD: usize = 5;

/// The niceness of clients and servers. Elsewhere they have machines of their own; here, three
/// hundred of them that log in at one time would leave the gateway no turn on the two cores.
const LOAD_NICENESS: u8 = 10;

/// Sessions at one time.
const SEATS: u16 = 300;

/// Seats that take their places at one time; more logins would only wait for each other.
const SEATS_AT_ONCE: usize = 10;

/// Between two looks at the daemon.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks between two printed lines: one a minute.
const LOOKS_PER_LINE: usize = 6;

/// For seats to end after the time is over: the longest run is a minute and a half.
const END_LIMIT: Duration = Duration::from_secs(180);

/// For the daemon to be rid of its last session, and of threads that wait for work (10 s).
const QUIET: Duration = Duration::from_secs(20);

/// How much more memory the last third may show than the one before it, as a part of it.
const GROWTH_MAX: f64 = 0.05;

/// How much more it may show in any case: what an allocator keeps is no leak.
const GROWTH_KB: f64 = 4096.0;

/// How many more threads or descriptors the last third may show: sessions come and go.
const GROWTH_COUNT: f64 = 40.0;

/// Descriptors that may be open after the last session which were not before the first: those of
/// the database's pool.
const DESCRIPTORS_KEPT: u32 = 8;

/// Seconds that a run takes, drawn anew for each: clients that all took as long would come to log
/// in at the same time, again and again. On average, some four log in per second; with many more,
/// two cores have nothing left but to start programs.
const RUN_S: &str = "40-100";

/// A kind of client, as a script. `$T` is the length of this run, `$I` tells seats apart, and
/// `fail` ends a seat.
struct Kind {
    name: &'static str,
    script: &'static str,
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "idle shell",
        script: r#"(echo 'echo a-$((1 + 1))-b'; sleep $T; echo exit) |
            ssh -F "$C" -tt "$H" | grep -q a-2-b || fail shell"#,
    },
    Kind {
        name: "commands",
        script: r#"[ "$(ssh -F "$C" "$H" "sleep $T; seq 5000 | tail -n 1" </dev/null)" = 5000 ] ||
            fail exec"#,
    },
    Kind {
        name: "sftp",
        script: r#"head -c 300K /dev/urandom >up.$I
            (echo "put up.$I up.$I"; sleep $((T / 2))
            echo "get up.$I down.$I"; echo "rm up.$I"; sleep $((T / 2))) |
                sftp -q -F "$C" "$H" >/dev/null 2>err.$I || fail sftp "$(cat err.$I)"
            cmp -s up.$I down.$I || fail "sftp: the file is another""#,
    },
    Kind {
        name: "forwarding",
        script: r#"sleep $T | ssh -F "$C" -W "$TO" "$H" | head -c 4 | grep -q SSH- ||
            fail forwarding"#,
    },
    Kind {
        name: "rekeying",
        script: r#"[ "$(ssh -F "$C" -o RekeyLimit=256K "$H" \
            "for i in 1 2 3 4 5 6; do head -c 500000 /dev/zero; sleep $((T / 6)); done" \
            </dev/null | wc -c)" = 3000000 ] || fail rekeying"#,
    },
    Kind {
        name: "vanishing",
        script: r#"timeout -s KILL "$T" ssh -F "$C" "$H" \
            'while :; do head -c 50000 /dev/zero; sleep 1; done' </dev/null >/dev/null
            [ $? = 137 ] || fail "it ended before it vanished""#,
    },
];

/// Goes around a kind's script until there is a file that says that the time is over.
const SEAT: &str = r#"fail() { echo "seat $I: $*" >&2; exit 1; }
cd "$D" || exit 1
runs=0
until [ -e over ]; do
T=$(shuf -i RUN_S -n 1)
SCRIPT
runs=$((runs + 1))
done
echo $runs"#;

/// What the daemon held at one time.
#[derive(Debug, Clone, Copy)]
struct Look {
    memory: Memory,
    threads: u32,
    descriptors: u32,
}

impl Look {
    fn at(stage: &Stage<'_>) -> Result<Self> {
        let (threads, descriptors) = stage.counts()?;
        Ok(Self { memory: stage.memory()?, threads, descriptors })
    }
}

/// Keeps [`SEATS`] sessions up for some minutes; fails where something goes wrong for one of them,
/// or where the daemon grows after the first third of the time.
pub(in crate::bench) fn soak(minutes: u32) -> Result<()> {
    let world = World::router()?;
    renice(LOAD_NICENESS, &[std::process::id()])?;
    let mut stage = Stage::start(&world, SEATS * 2)?;
    renice(0, &stage.threads()?)?;
    let time = Duration::from_secs(60) * minutes;
    match run(&stage, time) {
        Ok(()) => stage.proxyd.stop(),
        Err(error) => Err(error.context(complaints(&stage)?)),
    }
}

/// Sets the niceness of these threads; what they start from now on has the same.
fn renice(niceness: u8, threads: &[u32]) -> Result<()> {
    let mut command = Command::new("renice");
    command.arg("-n").arg(niceness.to_string()).arg("-p");
    command.args(threads.iter().map(u32::to_string));
    let done = command.output().context("cannot run renice")?;
    ensure!(done.status.success(), "renice: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// The last that the daemon has complained of.
fn complaints(stage: &Stage<'_>) -> Result<String> {
    let log = stage.proxyd.log()?;
    let serious = log.lines().rev().filter(|line| line.contains(" ERROR "));
    let last: Vec<&str> = serious.take(COMPLAINTS_TOLD).collect();
    Ok(format!("the soak failed; the daemon's last errors: {}", last.join("\n")))
}

fn run(stage: &Stage<'_>, time: Duration) -> Result<()> {
    let before = Look::at(stage)?;
    let mut seats = take_seats(stage)?;
    println!("minute   rss kB   anonymous kB   threads   descriptors   live sessions");
    let clock = Stopwatch::start();
    let mut looks = Vec::new();
    while clock.elapsed() < time {
        wait_for_look(&clock, looks.len())?;
        let look = Look::at(stage)?;
        looks.push(look);
        for (_kind, seat) in &mut seats {
            if let Some(status) = seat.status()?.filter(|status| !status.success()) {
                bail!("a client failed with {status}: {}", seat.stderr()?);
            }
        }
        if looks.len().is_multiple_of(LOOKS_PER_LINE) {
            let live = stage.proxyd.live_sessions()?.len();
            tell(&(looks.len() / LOOKS_PER_LINE).to_string(), look, live);
        }
    }
    fs::write(stage.client.directory().join("over"), "")?;
    leave_seats(seats)?;
    let clock = Stopwatch::start();
    wait_for("the daemon to be quiet", 2 * QUIET, || Ok((clock.elapsed() >= QUIET).then_some(())))?;
    stage.expect_live(0)?;
    let after = Look::at(stage)?;
    tell("end", after, 0);
    tell("before", before, 0);
    let kept = after.descriptors.saturating_sub(before.descriptors);
    ensure!(kept <= DESCRIPTORS_KEPT, "{kept} descriptors are open that were not before");
    judge(&looks)
}

fn tell(minute: &str, look: Look, live: usize) {
    let Look { memory, threads, descriptors } = look;
    let (resident, anonymous) = (memory.resident_kb, memory.anonymous_kb);
    println!("{minute:>6} {resident:>8} {anonymous:>14} {threads:>9} {descriptors:>13} {live:>15}");
}

/// Starts a seat of each kind in turn, recorded and not.
fn take_seats(stage: &Stage<'_>) -> Result<Vec<(&'static str, Process)>> {
    let directory = stage.client.directory().to_string_lossy().into_owned();
    let (server, port) = Subject::Direct.destination(stage.world);
    let mut seats = Vec::new();
    for (number, kind) in (0..SEATS).zip(KINDS.iter().cycle()) {
        // Twice through the kinds before the other subject has its turn again.
        let subject = if (usize::from(number) / KINDS.len()).is_multiple_of(2) {
            Subject::Proxyd
        } else {
            Subject::Recorded
        };
        let script = SEAT.replace("RUN_S", RUN_S).replace("SCRIPT", kind.script);
        let call = stage.script(subject, &script)?.env("I", &number.to_string());
        let call = call.env("D", &directory).env("TO", &format!("{server}:{port}"));
        seats.push((kind.name, call.start()?));
        if seats.len().is_multiple_of(SEATS_AT_ONCE) {
            let seated = seats.len();
            // A vanished client's seat is empty for a moment.
            wait_for("clients to log in", END_LIMIT, || {
                Ok((stage.proxyd.live_sessions()?.len() >= seated * 8 / 10).then_some(()))
            })?;
        }
    }
    Ok(seats)
}

/// Waits until it is time for look number `index`.
fn wait_for_look(clock: &Stopwatch, index: usize) -> Result<()> {
    let at = LOOK_EVERY * u32::try_from(index + 1)?;
    wait_for("the next look", 2 * LOOK_EVERY, || Ok((clock.elapsed() >= at).then_some(())))
}

/// Every seat ends by itself, and has run its script.
fn leave_seats(seats: Vec<(&str, Process)>) -> Result<()> {
    let mut runs = KINDS.map(|kind| (kind.name, 0_u32));
    for (name, seat) in seats {
        let ended = seat.finish(END_LIMIT)?.ok().with_context(|| name.to_owned())?;
        let count: u32 = ended.text().trim().parse().with_context(|| ended.text())?;
        if let Some((_, runs)) = runs.iter_mut().find(|(kind, _)| *kind == name) {
            *runs += count;
        }
    }
    let told: Vec<_> = runs.iter().map(|(name, runs)| format!("{name} {runs}")).collect();
    println!("runs: {}", told.join(", "));
    ensure!(runs.iter().all(|(_, runs)| *runs > 0), "a kind of client never ran");
    Ok(())
}

/// The last third of the looks may not show more than the second third; the first is for the daemon
/// to warm up.
fn judge(looks: &[Look]) -> Result<()> {
    let third = looks.len() / 3;
    let thirds = (looks.get(third..2 * third), looks.get(2 * third..));
    let (Some(earlier @ [_, ..]), Some(later @ [_, ..])) = thirds else {
        bail!("{} looks are too few to judge by", looks.len());
    };
    let checks: [(&str, fn(&Look) -> u32, f64); 3] = [
        ("kB of anonymous memory", |look| look.memory.anonymous_kb, GROWTH_KB),
        ("threads", |look| look.threads, GROWTH_COUNT),
        ("descriptors", |look| look.descriptors, GROWTH_COUNT),
    ];
    for (what, of, slack) in checks {
        let middle = |looks: &[Look]| {
            median(&looks.iter().map(|look| f64::from(of(look))).collect::<Vec<_>>())
        };
        let (earlier, later) = (middle(earlier)?, middle(later)?);
        let limit = earlier + slack.max(earlier * GROWTH_MAX);
        println!("{what}: {earlier} in the second third, {later} in the last, at most {limit:.0}");
        ensure!(later <= limit, "{what} grew from {earlier} to {later}, above {limit:.0}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(anonymous_kb: u32, threads: u32, descriptors: u32) -> Look {
        let memory = Memory { resident_kb: anonymous_kb, anonymous_kb };
        Look { memory, threads, descriptors }
    }

    #[test]
    fn growth_after_the_first_third_is_told_from_noise() {
        let cases = [
            ("flat", [1; 3], true),
            ("warming up", [1, 40, 40], true),
            ("memory", [1, 10, 16], false),
        ];
        for (name, megabytes, passes) in cases {
            let looks: Vec<_> =
                megabytes.iter().flat_map(|&mb| [look(mb * 1024, 10, 700); 6]).collect();
            assert_eq!(judge(&looks).is_ok(), passes, "{name}");
        }
        let mut threads = vec![look(1, 10, 700); 12];
        threads.extend(vec![look(1, 60, 700); 6]);
        assert!(judge(&threads).is_err());
        let mut descriptors = vec![look(1, 10, 700); 12];
        descriptors.extend(vec![look(1, 10, 760); 6]);
        assert!(judge(&descriptors).is_err());
        assert!(judge(&[look(1, 1, 1); 2]).is_err(), "too short to judge");
    }
}
