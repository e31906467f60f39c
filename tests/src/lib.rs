//! A world to try the gateway in: network namespaces, real SSH peers, the real daemon.
//!
//! Nothing in here is a stand-in: the client is OpenSSH's, the server is `sshd`, the gateway is the
//! `proxyd` binary. Everything that a world makes is gone when it is dropped, also after a panic.

pub mod bystander;
pub mod capture;
pub mod frame;
pub mod inject;
pub mod netns;
pub mod peer;
pub mod process;
pub mod proxyd;
pub mod seen;
pub mod terminal;
pub mod wait;
pub mod world;
