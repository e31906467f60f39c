//! Commands, by marks and by prompts.

use super::{MS, play_on, seen};
use crate::{CommandSource, Entry, Transcript};

/// A time in milliseconds, a text, an exit status and how it was found.
type Told<'a> = (u64, &'a str, Option<i32>, CommandSource);

fn commands(entries: &[Entry]) -> Vec<Told<'_>> {
    let commands = entries.iter().filter_map(|entry| match entry {
        Entry::Command(command) => {
            let text = command.text.as_str();
            Some((command.t_ns / MS, text, command.exit_status, command.source))
        }
        Entry::Seen(_) => None,
    });
    commands.collect()
}

type Case<'a> = (&'a str, &'a [(u64, &'a str)], &'a [Told<'a>]);

fn check(cases: &[Case<'_>]) {
    for (name, output, expected) in cases {
        assert_eq!(commands(&play_on(30, 5, output)), *expected, "{name}");
    }
}

const A: &str = "\x1b]133;A\x07";
const B: &str = "\x1b]133;B\x07";
const C: &str = "\x1b]133;C\x07";

#[test]
fn shells_mark_their_commands() {
    use CommandSource::Osc133;
    let prompt = &format!("{A}user$ {B}");
    let output = &format!("\r\n{C}out\r\n\x1b]133;D;2\x07{prompt}");
    let early = &format!("{C}\r\nout\r\n\x1b]133;D;0\x1b\\{prompt}");
    check(&[
        (
            "status",
            &[(0, prompt), (500, "ls -"), (900, "l"), (1_000, output)],
            &[(1_000, "ls -l", Some(2), Osc133)],
        ),
        (
            "all at once",
            &[(0, &format!("{prompt}ls{output}id{output}"))],
            &[(0, "ls", Some(2), Osc133), (0, "id", Some(2), Osc133)],
        ),
        (
            "output marked before the line ends",
            &[(0, prompt), (500, "ls"), (900, early), (1_000, "id"), (1_100, early)],
            &[(900, "ls", Some(0), Osc133), (1_100, "id", Some(0), Osc133)],
        ),
        (
            "no status yet",
            &[(0, prompt), (500, "top"), (900, "\r\n"), (910, C)],
            &[(900, "top", None, Osc133)],
        ),
        (
            "edited",
            &[(0, prompt), (500, "lsx\x08\x1b[K"), (600, " /"), (700, output)],
            &[(700, "ls /", Some(2), Osc133)],
        ),
        (
            "wrapped",
            &[(0, prompt), (500, "echo 0123456789012345678901234567"), (600, output)],
            &[(600, "echo 0123456789012345678901234567", Some(2), Osc133)],
        ),
        (
            "lines",
            &[
                (0, prompt),
                (500, "for i in 1"),
                (600, "\r\n> "),
                (900, "do :; done"),
                (990, output),
            ],
            &[(600, "for i in 1\ndo :; done", Some(2), Osc133)],
        ),
    ]);
}

#[test]
fn shells_mark_more_or_less() {
    use CommandSource::{Osc133, Osc633};
    let prompt = &format!("{A}user$ {B}");
    let output = &format!("\r\n{C}out\r\n\x1b]133;D;2\x07{prompt}");
    let empty = &format!("\r\n\x1b]133;D\x07{prompt}");
    let canceled = &format!("^C\r\n\x1b]133;D;130\x07{prompt}");
    let code = "\x1b]633;A\x07user$ \x1b]633;B\x07";
    let line = "\r\n\x1b]633;E;ls\\x3b id;nonce\x07\x1b]633;C\x07out\r\n\x1b]633;D;0\x07";
    let fish = "\r\n\x1b]133;C;cmdline_url=ls%20-l\x07out\r\n\x1b]133;D;0\x07";
    let unsaid = "\r\n\x1b]133;C\x07out\r\n\x1b]133;D;7\x07";
    let end = "\x1b]133;D;4\x07";
    check(&[
        (
            "nothing typed, and one given up",
            &[(0, prompt), (500, output), (600, empty), (700, "rm"), (800, canceled)],
            &[],
        ),
        (
            "prompts marked alone",
            &[(0, prompt), (500, "ls"), (600, "\r\nout\r\n"), (610, prompt), (700, "id\r\n")],
            &[(600, "ls", None, Osc133), (700, "id", None, Osc133)],
        ),
        (
            "command line said",
            &[(0, code), (500, "ls; id"), (600, line), (610, code)],
            &[(600, "ls; id", Some(0), Osc633)],
        ),
        (
            "command line said by fish",
            &[(0, &format!("{A}user ")), (500, "ls -l"), (600, fish)],
            &[(600, "ls -l", Some(0), Osc133)],
        ),
        (
            "input not marked",
            &[(0, &format!("{A}user$ ")), (500, "ls -l"), (600, unsaid)],
            &[(600, "ls -l", Some(7), Osc133)],
        ),
        ("marks without a command", &[(0, &format!("{end}{C}{end}{A}{B}"))], &[]),
    ]);
}

#[test]
fn a_shell_without_marks_may_run_within_one_with() {
    use CommandSource::{Osc133, Prompt};
    let prompt = &format!("{A}user$ {B}");
    let output = &[
        (0, prompt.as_str()),
        (500, "ssh other"),
        (600, &format!("\r\n{C}")),
        (900, "me@other:~$ "),
        (1_500, "id\r\n"),
        (1_600, "me@other:~$ "),
        (1_900, "exit\r\n"),
        (2_000, &format!("\x1b]133;D;4\x07{prompt}")),
    ];
    let expected = [
        (1_500, "id", None, Prompt),
        (600, "ssh other", Some(4), Osc133),
        (1_900, "exit", None, Prompt),
    ];
    assert_eq!(commands(&play_on(30, 5, output)), expected);
}

#[test]
fn prompts_are_known_by_their_looks() {
    use CommandSource::Prompt;
    let typed: [(&str, &str); 6] = [
        ("user", "user@host:~$ "),
        ("root", "root@host:/# "),
        ("csh", "host% "),
        ("router", "router> "),
        ("bare", "$ "),
        ("coloured", "\x1b[1;32muser\x1b[m:\x1b[34m~\x1b[m$ "),
    ];
    for (name, prompt) in typed {
        let output = [(0, prompt), (500, "ls"), (700, " -l"), (900, "\r\n"), (910, "out\r\n")];
        assert_eq!(commands(&play_on(30, 5, &output)), [(900, "ls -l", None, Prompt)], "{name}");
    }
}

#[test]
fn a_command_is_what_stands_behind_its_prompt_at_last() {
    use CommandSource::Prompt;
    check(&[
        ("nothing typed", &[(0, "user$ "), (500, "\r\n"), (510, "user$ ")], &[]),
        (
            "history",
            &[
                (0, "user$ "),
                (500, "make test"),
                (600, "\r\x1b[6C\x1b[Kmake"),
                (700, "\r\x1b[Kuser$ id"),
                (800, "\r\n0\r\nuser$ "),
            ],
            &[(800, "id", None, Prompt)],
        ),
        (
            "a prompt within what is typed",
            &[(0, "user$ "), (500, "echo > "), (600, "x # "), (700, "y\r\n")],
            &[(700, "echo > x # y", None, Prompt)],
        ),
        (
            "wrapped, and edited on the first of its rows",
            &[
                (0, "user$ "),
                (500, "echo 01234567890123456789012345"),
                (600, "\x1b[A\x1b[5D"),
                (700, "\n\r\x1b[8C"),
                (800, "\r\n"),
            ],
            &[(800, "echo 01234567890123456789012345", None, Prompt)],
        ),
        (
            "scrolled",
            &[(0, "\n\n\n\n\nuser$ "), (500, "ls"), (600, "\r\n"), (601, "\n\n\n\nuser$ ")],
            &[(600, "ls", None, Prompt)],
        ),
        (
            "list of completions below",
            &[
                (0, "user$ "),
                (500, "cd D"),
                (600, "\r\r\nDesktop  Documents\x1b[A\r\x1b[10C"),
                (900, "oc\x1b[J"),
                (990, "\r\r\n"),
            ],
            &[(990, "cd Doc", None, Prompt)],
        ),
    ]);
}

#[test]
fn prompts_stand_anywhere() {
    use CommandSource::Prompt;
    check(&[
        (
            "prompt and echo at once, of a known prompt",
            &[(0, "user$ "), (500, "id\r\n0\r\nuser$ ls\r\nout\r\nuser$ ")],
            &[(500, "id", None, Prompt), (500, "ls", None, Prompt)],
        ),
        (
            "screen cleared",
            &[(0, "user$ "), (500, "id"), (600, "\x1b[H\x1b[2Juser$ id"), (700, "\r\n")],
            &[(700, "id", None, Prompt)],
        ),
        (
            "wide",
            &[(0, "日本$ "), (500, "echo 語"), (700, "\r\n")],
            &[(700, "echo 語", None, Prompt)],
        ),
        (
            "hidden answer",
            &[
                (0, "user$ "),
                (500, "su\r\nPassword: "),
                (900, "\r\n"),
                (910, "# "),
                (990, "id\r\n"),
            ],
            &[(500, "su", None, Prompt), (990, "id", None, Prompt)],
        ),
        (
            "other screen",
            &[(0, "\x1b[?1049h\x1b[2Huser$ "), (500, "id"), (600, "\r\n"), (700, "\x1b[?1049l")],
            &[(600, "id", None, Prompt)],
        ),
    ]);
}

#[test]
fn output_is_no_prompt() {
    let page = "EXAMPLES\r\n       $ ls -l\r\n> quoted\r\n# comment\r\n50% done\r\n";
    check(&[
        ("page", &[(0, page), (500, "more\r\n")], &[]),
        ("in any pieces of a moment", &[(0, "# "), (0, "comment\r\n")], &[]),
        ("no space behind", &[(0, "100%"), (500, " done\r\n")], &[]),
        ("text behind the cursor", &[(0, "a$ b\x1b[1D"), (500, "c\r\n")], &[]),
        ("left upwards", &[(0, "\r\na$ "), (500, "b\x1b[A")], &[]),
        ("percentages", &[(0, "10% "), (500, "\r20% "), (900, "\r30% \r\n")], &[]),
    ]);
    // Output that rests there looks like a prompt, and is said to be one by its looks only.
    let rests = play_on(30, 5, &[(0, "# "), (1, "comment\r\n")]);
    assert_eq!(commands(&rests), [(1, "comment", None, CommandSource::Prompt)]);
    let soon = {
        let mut transcript = Transcript::new(30, 5);
        let mut entries = transcript.feed(0, b"# ");
        entries.extend(transcript.feed(MS / 2 - 1, b"comment\r\n"));
        entries.extend(transcript.finish(MS));
        entries
    };
    assert_eq!(commands(&soon), []);
}

#[test]
fn a_command_has_an_end() {
    let long = "x".repeat(200_000);
    let output = format!("{A}{B}{long}\r\n{C}");
    let entries = play_on(1_000, 131, &[(0, &output)]);
    // The first rows have scrolled out, and with them the place where it began.
    assert_eq!(commands(&entries), []);
    let said = format!("{A}{B}\r\n\x1b]633;E;{}\x07{C}", "é".repeat(10_000));
    let entries = play_on(10, 3, &[(0, &said)]);
    assert_eq!(commands(&entries), [(0, &*"é".repeat(8_192), None, CommandSource::Osc133)]);
    let text = "y".repeat(100_000);
    let entries = play_on(1_000, 131, &[(0, &format!("{A}{B}{text}\r\n{C}"))]);
    let found = commands(&entries);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1.len(), 16 * 1_024);
    // What is cut from a command is seen all the same.
    assert_eq!(seen(&entries).iter().map(|(_, text)| text.len()).sum::<usize>(), 100_000);
}
