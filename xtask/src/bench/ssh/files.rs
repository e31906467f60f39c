//! Files over sftp.

use std::fs::File;
use std::time::Duration;

use anyhow::Result;

use super::USER;
use super::stage::Stage;
use super::subject::Subject;
use super::turns;
use crate::bench::report::Report;

/// Rounds of each comparison.
const ROUNDS: u32 = 3;

/// Bytes of the file; it takes about half a second.
const FILE_BYTES: u32 = 256 << 20;

/// Bytes of the file for ssh-mitm, which takes as long for fewer.
const FILE_BYTES_SSH_MITM: u32 = 8 << 20;

/// For one transfer.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// Fetches a file, and sends one. Logging in is counted, as for whoever copies a file.
pub(super) fn measure(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    println!("files");
    let (here, there) = (stage.client.directory().to_owned(), stage.server.home(USER));
    for directory in [&here, &there] {
        File::create(directory.join("large"))?.set_len(u64::from(FILE_BYTES))?;
        File::create(directory.join("small"))?.set_len(u64::from(FILE_BYTES_SSH_MITM))?;
    }
    let here = here.display();
    for (case, transfer) in [
        ("sftp get", format!("get $FILE {here}/fetched")),
        ("sftp put", format!("put {here}/$FILE sent")),
    ] {
        let script = format!(r#"echo "{transfer}" | exec sftp -q -F "$C" "$H" >/dev/null"#);
        let turns = turns::take(&Subject::ALL, ROUNDS, |subject, _round| {
            let (file, bytes) = match subject {
                Subject::SshMitm => ("small", FILE_BYTES_SSH_MITM),
                Subject::Direct | Subject::Proxyd | Subject::Recorded | Subject::SshJ => {
                    ("large", FILE_BYTES)
                }
            };
            let run = stage.script(subject, &script)?.env("FILE", file).run(RUN_LIMIT)?.ok()?;
            Ok([f64::from(bytes) / 1e6 / run.took.as_secs_f64()])
        })?;
        turns.tell(report, case, ("speed", "MB/s"), 0);
    }
    Ok(())
}
