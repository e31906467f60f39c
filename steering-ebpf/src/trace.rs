//! Tracing: verdicts about new connections, told to whoever looks at this moment.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use steering_common::flow::Flow;
use steering_common::stats::Reason;
use steering_common::trace::Traced;

use crate::account::count;
use crate::maps::{TRACE, TRACING};

/// Tells the verdict about a packet of `flow`, if anybody looks.
#[inline(always)]
pub(crate) fn trace(flow: &Flow, reason: Reason, policy: u32) {
    if TRACING.get(0).is_some_and(|until_ns| *until_ns != 0) {
        let _always_zero = steer_trace(flow, reason as u32, policy);
    }
}

/// A global function, which the verifier reads once.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn steer_trace(flow: *const Flow, reason: u32, policy: u32) -> u32 {
    // SAFETY: the verifier lets only whole flows through.
    let Some(flow) = (unsafe { flow.as_ref() }) else { return 0 };
    // SAFETY: takes no pointers.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    // Whoever looks says so again and again, so that nothing is told when it is gone.
    if TRACING.get(0).is_none_or(|until_ns| *until_ns < now_ns) {
        return 0;
    }
    if TRACE.output::<Traced>(Traced::new(now_ns, flow, reason, policy), 0).is_err() {
        count(Reason::TraceLost);
    }
    0
}
