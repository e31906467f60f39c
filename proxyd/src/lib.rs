//! proxyd: a transparent, recording gateway for privileged sessions.
//!
//! The way of a connection, in the order of the modules: [`steering`] hands the kernel's matching
//! flows to our listeners ([`net`]), [`app`] accepts them, [`line::serve`] takes each through
//! its steps — [`gateway`], [`target`], [`usermapping`], [`channel`], [`dial`], [`protocols`],
//! [`recording`] — and [`store`] keeps what they leave behind.

pub mod clock;
pub mod task;
pub mod presence;
pub mod config;
pub mod session;
pub mod store;
pub mod telemetry;
pub mod net;
pub mod steering;
pub mod ask;
pub mod hostkeys;
pub mod index;
pub mod kerberos;
pub mod gateway;
pub mod target;
pub mod usermapping;
pub mod credential;
pub mod dial;
pub mod channel;
pub mod recording;
pub mod ctx;
pub mod line;
pub mod protocols;
pub mod control;
pub mod handover;
pub mod app;
pub mod cli;
