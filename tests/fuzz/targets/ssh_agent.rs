//! What an agent answers, whole and in two pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxyd_ssh::agent::Answers;

fuzz_target!(|input: &[u8]| {
    let Some((&cut, bytes)) = input.split_first() else { return };
    let whole = Answers::default().push(bytes);
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let mut answers = Answers::default();
    // An answer that is whole in the first piece is not that of both.
    if let Ok(None) = answers.push(first) {
        assert_eq!(answers.push(second), whole);
    }
});
