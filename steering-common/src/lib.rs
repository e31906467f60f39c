//! What the eBPF program and the daemon share: flows, rules, decisions and map layouts.
//!
//! Everything that lives in a map is `repr(C)`, has no implicit padding, and asserts its size.
//! Compiled for the kernel without `user`; with it, the rule compiler and the reference are added.
#![no_std]

#[cfg(any(test, feature = "user"))]
extern crate alloc;

pub mod action;
#[cfg(any(test, feature = "user"))]
pub mod compile;
#[cfg(any(test, feature = "user"))]
pub mod decide;
pub mod flow;
pub mod layout;
pub mod limits;
pub mod lookup;
pub mod pace;
pub mod pairs;
pub mod parse;
#[cfg(any(test, feature = "user"))]
pub mod rule;
pub mod stats;
pub mod table;
pub mod trace;
