//! A frame where its driver received it (XDP): bytes in memory, and no packet of the kernel's yet.
//! All raw pointer arithmetic on such frames is here.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use core::ffi::c_void;
use steering_common::parse::{Arrival, Bytes, ETHERNET_BYTES, Segment, Walk, parse};
use steering_common::stats::Reason;

use crate::forward::Forward;
use crate::maps::{DEVICES, PORTS};

/// No frame of one piece is longer; the verifier wants a bound on offsets.
const OFFSET_MAX: u32 = 0x3fff;

/// Length of the shortest frame of Ethernet without its checksum: shorter packets are filled up.
const FRAME_BYTES_MIN: u32 = 60;

/// A frame in XDP; offset 0 is the destination hardware address.
pub(crate) struct DriverFrame<'a> {
    ctx: &'a XdpContext,
}

impl Bytes for DriverFrame<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        // SAFETY: `N` bytes of the frame stand there, and an array of bytes stands anywhere.
        self.at::<N>(offset).map(|at| unsafe { *at })
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        (self.ctx.data_end() - self.ctx.data()) as u32
    }

    /// Takes no step: what has options or extension headers is left to the kernel, and a loop over
    /// bytes in memory is more than the verifier reads.
    #[inline(always)]
    fn run<W: Walk>(&self, _walk: &mut W) {}
}

impl Forward for DriverFrame<'_> {
    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.raw().cast()
    }

    #[inline(always)]
    fn put<const N: usize>(&self, offset: u32, bytes: &[u8; N]) -> bool {
        let Some(at) = self.at::<N>(offset) else {
            return false;
        };
        // SAFETY: `N` bytes of the frame stand there, which nothing else refers to.
        unsafe { *at = *bytes };
        true
    }

    /// Only a frame that is its packet: the kernel cuts off what stands behind one, and drops one
    /// that is not all there.
    #[inline(always)]
    fn packet_bytes(&self, _segment: &Segment, said: u16) -> Option<u16> {
        let needed = ETHERNET_BYTES + u32::from(said);
        let length = self.length();
        let is_filled_up = needed < length && length <= FRAME_BYTES_MIN;
        Some(said).filter(|_said| needed == length || is_filled_up)
    }

    #[inline(always)]
    fn can_leave_by(&self, ifindex: u32) -> bool {
        DEVICES.redirect(ifindex, 0).is_ok()
    }
}

impl<'a> DriverFrame<'a> {
    /// The frame of a program's context.
    #[inline(always)]
    pub(crate) const fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }

    /// Reads the headers into `segment`; see [`parse`]. A tag stands in the frame itself.
    #[inline(always)]
    pub(crate) fn headers(&self, segment: &mut Segment) -> Result<(), Reason> {
        parse(self, &Arrival { ifindex: self.ifindex(), tag: None }, segment)
    }

    /// Whether the link address is the interface's own.
    #[inline(always)]
    pub(crate) fn is_for_us(&self) -> bool {
        // SAFETY: the element is copied at once; the daemon replaces elements, it never frees the
        // map.
        let port = unsafe { PORTS.get(self.ifindex()) }.copied();
        port.is_some_and(|port| self.read(0) == Some(port.address))
    }

    /// Index of the interface that received the frame.
    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid for the run of the program.
        unsafe { (*self.raw()).ingress_ifindex }
    }

    #[inline(always)]
    const fn raw(&self) -> *mut xdp_md {
        self.ctx.ctx
    }

    /// Where the `N` bytes at `offset` stand; `None` when the frame ends before. One byte alone has
    /// to have another behind it, as it has in every header: the compiler makes a comparison of a
    /// check for one byte that the verifier does not understand.
    #[inline(always)]
    fn at<const N: usize>(&self, offset: u32) -> Option<*mut [u8; N]> {
        if offset > OFFSET_MAX {
            return None;
        }
        let start = self.ctx.data() + offset as usize;
        if start + N.max(2) > self.ctx.data_end() { None } else { Some(start as *mut [u8; N]) }
    }
}
