//! Pairs of legs joined by byte queues, and raw peers that break the rules.

mod harness;
mod pair;
