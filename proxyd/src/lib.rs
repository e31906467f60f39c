//! proxyd: a transparent, recording gateway for privileged sessions.
//!
//! The way of a connection, in the order of the modules: [`steering`] hands the kernel's matching
//! flows to our listeners ([`net`]), [`app`] accepts them, [`session::serve`] takes each through
//! its steps — [`gateway`], [`target`], [`usermapping`], [`channel`], [`dial`], [`protocols`],
//! [`recording`] — and [`store`] keeps what they leave behind.

pub mod app;
pub mod ask;
pub mod channel;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod credential;
pub mod ctx;
pub mod dial;
pub mod gateway;
pub mod hostkeys;
pub mod net;
pub mod protocols;
pub mod recording;
pub mod session;
pub mod steering;
pub mod store;
pub mod target;
pub mod task;
pub mod telemetry;
pub mod usermapping;
