//! A trail that a hostile disk hands back: the verifier, the places in it, the records inside, and
//! what their output shows.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use proxyd_trail::{Identities, Reader, Records, ScreenFilter, SeekReader, verify};

fuzz_target!(|file: &[u8]| {
    let _ = verify(file, None);
    if let Ok(mut reader) = Reader::open(file, &Identities::new(), None) {
        while let Ok(Some(_entry)) = reader.next_record() {}
    }
    // The places are found before it shows that nobody opens the trail.
    let _ = SeekReader::open(Cursor::new(file), &Identities::new(), None);
    let _ = (ScreenFilter::drawing().pass(file), ScreenFilter::text().pass(file));
    for record in Records::new(file) {
        if record.is_err() {
            break;
        }
    }
});
