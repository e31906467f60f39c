//! The steering programs: entry points only. Each reads its context, calls, returns.
//!
//! All that steer attach to TCX ingress. What is not steered continues with `TCX_NEXT`, so that
//! other programs of the interface still see it. `fast` attaches to the driver (XDP), and steers
//! nothing: what it does not forward comes to the others.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the attribute of an entry point adds a public function of its own"
)]
#![expect(unsafe_code, reason = "kernel helpers, maps and context fields; each block says why")]

mod account;
mod classify;
mod deliver;
mod driver;
mod fast;
mod forward;
mod maps;
mod packet;
mod pairs;
mod sock;
mod steer;
mod trace;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::driver::DriverFrame;
use crate::packet::Frame;

/// Router mode, client side: steers known connections and classifies new ones.
#[classifier]
pub fn classify(ctx: TcContext) -> i32 {
    steer::client_side(&Frame::new(&ctx))
}

/// Router mode, server side: brings the servers' answers to the proxy's connections, which keep
/// the client's address.
#[classifier]
pub fn return_path(ctx: TcContext) -> i32 {
    steer::server_side(&Frame::new(&ctx))
}

/// Bridge mode, every port: hands what is steered up to the bridge.
#[classifier]
pub fn classify_port(ctx: TcContext) -> i32 {
    steer::bridge_port(&Frame::new(&ctx))
}

/// Bridge mode, the bridge itself: assigns listeners to what a port handed up.
#[classifier]
pub fn deliver(ctx: TcContext) -> i32 {
    deliver::on_bridge(&Frame::new(&ctx))
}

/// Router mode, both sides, where the fast path is at the driver: forwards what the other programs
/// would only let pass.
#[xdp]
pub fn fast(ctx: XdpContext) -> u32 {
    fast::forward_early(&DriverFrame::new(&ctx))
}

/// Attached nowhere: tells what the table says of a frame, so that it can be checked before the
/// programs loaded with it are put in force.
#[classifier]
pub fn judge(ctx: TcContext) -> i32 {
    steer::judge(&Frame::new(&ctx))
}

/// Never reached: the linker removes every panic, or the verifier refuses the program.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Lets the program call helpers that the kernel reserves for free software.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
