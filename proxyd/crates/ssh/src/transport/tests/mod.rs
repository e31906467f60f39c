//! Pairs of legs joined by byte queues, and peers that break the rules.

mod harness;
mod hostile;
mod pair;
mod rekey;
