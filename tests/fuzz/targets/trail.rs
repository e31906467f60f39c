//! A trail that a hostile disk hands back: the verifier, and the records inside.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxyd_trail::{Identities, Reader, Records, verify};

fuzz_target!(|file: &[u8]| {
    let _ = verify(file, None);
    if let Ok(mut reader) = Reader::open(file, &Identities::new(), None) {
        while let Ok(Some(_entry)) = reader.next_record() {}
    }
    for record in Records::new(file) {
        if record.is_err() {
            break;
        }
    }
});
