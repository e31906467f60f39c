//! The packet: reads by offset, the few writes, and the context's fields. All raw pointer
//! arithmetic on packets and contexts is here.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::{bpf_loop, bpf_redirect, bpf_skb_load_bytes};
use aya_ebpf::programs::TcContext;
use core::cell::Cell;
use core::ffi::{c_long, c_void};
use core::{mem, ptr};
use steering_common::flow::{Family, words_v4, words_v6};
use steering_common::parse::{Arrival, Bytes, Segment, Walk, parse};
use steering_common::stats::{REASONS, Reason};

use crate::forward::Forward;

/// Packet types "for this host" and "for another" (`linux/if_packet.h`).
const PACKET_HOST: u32 = 0;
const PACKET_OTHERHOST: u32 = 3;

/// A frame in TC ingress; offset 0 is the destination hardware address.
pub(crate) struct Frame<'a> {
    ctx: &'a TcContext,
}

impl Bytes for Frame<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut bytes = [0_u8; N];
        let to = bytes.as_mut_ptr().cast::<c_void>();
        // SAFETY: `to` points to `N` writable bytes; the helper checks the offset.
        let result = unsafe { bpf_skb_load_bytes(self.raw().cast(), offset, to, N as u32) };
        if result == 0 { Some(bytes) } else { None }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.ctx.len()
    }

    #[inline(always)]
    fn run<W: Walk>(&self, walk: &mut W) {
        let mut state = WalkState { frame: self, walk };
        let context = ptr::from_mut(&mut state).cast::<c_void>();
        // SAFETY: `step` has the signature that the helper calls, and `state` outlives the loop.
        let _steps = unsafe { bpf_loop(W::STEPS_MAX, step::<W> as *mut c_void, context, 0) };
    }
}

/// What the functions below return for a whole segment; a reason's number otherwise.
const WHOLE: u32 = u32::MAX;
/// The frame has headers behind its first piece.
const SHORT: u32 = u32::MAX - 1;

const fn number(read: Result<(), Reason>) -> u32 {
    match read {
        Ok(()) => WHOLE,
        Err(reason) => reason as u32,
    }
}

#[inline(always)]
const fn reason(number: u32) -> Reason {
    if number >= REASONS {
        return Reason::Malformed;
    }
    // SAFETY: reasons are numbered from 0 without a gap, and the number is one of theirs.
    unsafe { mem::transmute::<u32, Reason>(number) }
}

// Global functions, which the verifier reads once, and not again for every way that follows.

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn steer_near_headers(skb: *mut __sk_buff, segment: *mut Segment) -> u32 {
    // SAFETY: the verifier lets only whole segments through.
    let Some(segment) = (unsafe { segment.as_mut() }) else { return SHORT };
    let ctx = TcContext::new(skb);
    let frame = Frame::new(&ctx);
    let near = Near { frame: &frame, is_short: Cell::new(false) };
    let read = parse(&near, &frame.arrival(), segment);
    if near.is_short.get() { SHORT } else { number(read) }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn steer_far_headers(skb: *mut __sk_buff, segment: *mut Segment) -> u32 {
    // SAFETY: the verifier lets only whole segments through.
    let Some(segment) = (unsafe { segment.as_mut() }) else { return SHORT };
    *segment = Segment::EMPTY;
    let ctx = TcContext::new(skb);
    let frame = Frame::new(&ctx);
    number(parse(&frame, &frame.arrival(), segment))
}

/// The first piece of a frame, which is read without a call of the kernel. In nearly all frames it
/// has all headers.
struct Near<'f> {
    frame: &'f Frame<'f>,
    /// Whether it had not.
    is_short: Cell<bool>,
}

/// How far into a frame is read so. The verifier wants a bound.
const NEAR_BYTES: u32 = 255;

impl Bytes for Near<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let start = self.frame.ctx.data() + (offset & NEAR_BYTES) as usize;
        if offset > NEAR_BYTES || start + N > self.frame.ctx.data_end() {
            self.is_short.set(true);
            return None;
        }
        // SAFETY: the bytes end before the end of the piece.
        Some(unsafe { ptr::read_unaligned(start as *const [u8; N]) })
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.frame.length()
    }

    #[inline(always)]
    fn run<W: Walk>(&self, walk: &mut W) {
        self.frame.run(walk);
    }
}

impl Forward for Frame<'_> {
    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.raw().cast()
    }

    #[inline(always)]
    fn put<const N: usize>(&self, offset: u32, bytes: &[u8; N]) -> bool {
        self.write(offset, bytes)
    }

    /// The kernel joins segments on their way in, and cuts them again on their way out.
    #[inline(always)]
    fn packet_bytes(&self, segment: &Segment, said: u16) -> Option<u16> {
        // SAFETY: the context is valid for the run of the program.
        let part_bytes = unsafe { (*self.raw()).gso_size };
        if part_bytes == 0 {
            return Some(said).filter(|said| *said > 0);
        }
        // Only of TCP's it is known how long their headers are.
        let header_bytes = u32::from(segment.header_bytes);
        if header_bytes == 0 {
            return None;
        }
        u16::try_from(segment.tcp_offset - segment.ip_offset + header_bytes + part_bytes).ok()
    }
}

struct WalkState<'a, 'w, W> {
    frame: &'a Frame<'a>,
    walk: &'w mut W,
}

/// Whether the loop ends.
unsafe extern "C" fn step<W: Walk>(_index: u32, context: *mut c_void) -> c_long {
    // SAFETY: the helper hands over the pointer that `run` gave it, and nothing else uses it.
    let state = unsafe { &mut *context.cast::<WalkState<'_, '_, W>>() };
    c_long::from(!state.walk.step(state.frame))
}

impl<'a> Frame<'a> {
    /// The frame of a program's context.
    #[inline(always)]
    pub(crate) const fn new(ctx: &'a TcContext) -> Self {
        Self { ctx }
    }

    /// Reads the headers into `segment`; see [`parse`].
    #[inline(always)]
    pub(crate) fn headers(&self, segment: &mut Segment) -> Result<(), Reason> {
        let number = match steer_near_headers(self.raw(), segment) {
            SHORT => steer_far_headers(self.raw(), segment),
            number => number,
        };
        if number == WHOLE { Ok(()) } else { Err(reason(number)) }
    }

    /// The context, as helpers want it.
    #[inline(always)]
    pub(crate) const fn raw(&self) -> *mut __sk_buff {
        self.ctx.skb.skb
    }

    /// Where the frame arrived, and the tag that the kernel took out of it.
    #[inline(always)]
    fn arrival(&self) -> Arrival {
        let skb = self.raw();
        // SAFETY: the context is valid for the run of the program.
        let present = unsafe { (*skb).vlan_present };
        // SAFETY: as above.
        let tag = unsafe { (*skb).vlan_tci };
        Arrival {
            ifindex: self.ifindex(),
            tag: if present == 0 { None } else { Some((tag & 0xffff) as u16) },
        }
    }

    /// Index of the interface whose hook runs.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid for the run of the program.
        unsafe { (*self.raw()).ifindex }
    }

    /// Whether the link address is another device's: the kernel would not take the frame.
    #[inline(always)]
    pub(crate) fn is_for_another(&self) -> bool {
        // SAFETY: the context is valid for the run of the program.
        let packet_type = unsafe { (*self.raw()).pkt_type };
        packet_type == PACKET_OTHERHOST
    }

    /// Replaces the destination of `segment` by the address at `offset`.
    #[inline(always)]
    pub(crate) fn read_destination(&self, segment: &mut Segment, offset: u32) -> Option<()> {
        segment.flow.destination = match segment.flow.family {
            Family::V4 => words_v4(self.read(offset)?),
            Family::V6 => words_v6(self.read(offset)?),
        };
        Some(())
    }

    /// The packet mark.
    #[inline(always)]
    pub(crate) fn mark(&self) -> u32 {
        // SAFETY: the context is valid for the run of the program.
        unsafe { (*self.raw()).mark }
    }

    /// Sets `mark` in the packet mark, leaving other bits, and addresses the packet to this host.
    #[inline(always)]
    pub(crate) fn claim(&self, mark: u32) {
        self.ctx.set_mark(self.mark() | mark);
        // Fails only on packets that already go to this host or were never for a host.
        let _already_ours = self.ctx.skb.change_type(PACKET_HOST);
    }

    /// Overwrites bytes of the packet. Checksums in headers are the caller's; the one that the
    /// network card may have summed over the packet stays right once those are fixed.
    #[inline(always)]
    pub(crate) fn write<const N: usize>(&self, offset: u32, bytes: &[u8; N]) -> bool {
        self.ctx.store(offset as usize, bytes, 0).is_ok()
    }

    /// Adds a difference of sums to the checksum at `offset` that covers the bytes changed.
    #[inline(always)]
    pub(crate) fn fix_checksum(&self, offset: u32, difference: u64) -> bool {
        self.ctx.l4_csum_replace(offset as usize, 0, difference, 0).is_ok()
    }

    /// Fixes the IPv4 header checksum at `offset` for a 16-bit field that changed.
    #[inline(always)]
    pub(crate) fn fix_ip_checksum(&self, offset: u32, from: u16, to: u16) -> bool {
        let (from, to) = (u64::from(from.to_be()), u64::from(to.to_be()));
        self.ctx.l3_csum_replace(offset as usize, from, to, size_of::<u16>() as u64).is_ok()
    }

    /// Sends the packet out of the interface it came from; the program must return the result.
    #[inline(always)]
    pub(crate) fn send_back(&self) -> i32 {
        self.send_by(self.ifindex())
    }

    /// Sends the packet out of an interface; the program must return the result.
    #[inline(always)]
    pub(crate) fn send_by(&self, ifindex: u32) -> i32 {
        // SAFETY: takes no pointers.
        unsafe { bpf_redirect(ifindex, 0) as i32 }
    }
}
