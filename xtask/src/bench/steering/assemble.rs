//! Three small eBPF programs, instruction by instruction (RFC 9669).

use anyhow::{Context as _, Result};

use super::frames::{FLOWS_MASK, Frame, HEADER_BYTES};

/// An instruction (RFC 9669 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    opcode: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// A register, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Register(u8);

const R0: Register = Register(0);
const R1: Register = Register(1);
const R2: Register = Register(2);
const R6: Register = Register(6);
const R7: Register = Register(7);
const R8: Register = Register(8);

/// What a classifier on TCX returns so that the packet goes on as if it were not there.
const TCX_NEXT: i32 = -1;

/// What an XDP program returns.
const XDP_ABORTED: i32 = 0;
const XDP_DROP: i32 = 1;
const XDP_TX: i32 = 3;

/// `bpf_get_prandom_u32`, by its number.
const GET_PRANDOM_U32: i32 = 7;

/// Where `struct xdp_md` keeps the bounds of the frame.
const XDP_DATA: i16 = 0;
const XDP_DATA_END: i16 = 4;

/// A classifier that does nothing: what running any program costs.
pub(super) fn empty_classifier() -> Vec<Instruction> {
    vec![set(R0, TCX_NEXT), exit()]
}

/// An XDP program that drops everything: the end of the way of measured packets.
pub(super) fn sink() -> Vec<Instruction> {
    vec![set(R0, XDP_DROP), exit()]
}

/// An XDP program that sends out `frame`, to one of as many flows as `flows_mask` and 1 (a power
/// of two) says.
///
/// Pages of live frames are used again as they came back from the network: with the link addresses
/// and the TTL of the last hop. So it writes all headers, every time.
///
/// # Errors
/// When the frame is shorter than its headers.
pub(super) fn injector(frame: &Frame, flows_mask: i32) -> Result<Vec<Instruction>> {
    let headers = frame.bytes.get(..HEADER_BYTES).context("a frame without headers")?;
    let mut code = vec![
        copy(R6, R1),
        load_word(R7, R6, XDP_DATA),
        load_word(R8, R6, XDP_DATA_END),
        call(GET_PRANDOM_U32),
        and(R0, flows_mask & FLOWS_MASK),
        copy(R1, R7),
        add(R1, i32::try_from(HEADER_BYTES)?),
    ];
    let mut rest = Vec::new();
    let mut at = 0;
    for halfword in headers.chunks_exact(2) {
        rest.push(store_halfword_of(R7, at, halfword)?);
        at += 2;
    }
    // The flow's number goes into the upper half of the server's address, and what is added there
    // is taken away from the IP identification and the TCP sequence number: sums stay right.
    rest.extend([
        copy(R1, R0),
        or(R1, i32::from(frame.destination_upper)),
        to_big_endian(R1),
        store_halfword(R7, R1, frame.destination_at),
        set(R2, FLOWS_MASK),
        subtract(R2, R0),
        to_big_endian(R2),
        store_halfword(R7, R2, frame.identification_at),
        store_halfword(R7, R2, frame.sequence_at),
        set(R0, XDP_TX),
        exit(),
    ]);
    code.push(skip_if_above(R1, R8, i16::try_from(rest.len())?));
    code.extend(rest);
    code.extend([set(R0, XDP_ABORTED), exit()]);
    Ok(code)
}

const fn instruction(opcode: u8, to: Register, from: Register, offset: i16) -> Instruction {
    // The two nibbles change places with the byte order (RFC 9669 section 3).
    let registers =
        if cfg!(target_endian = "big") { to.0 << 4 | from.0 } else { from.0 << 4 | to.0 };
    Instruction { opcode, registers, offset, immediate: 0 }
}

const fn with_immediate(opcode: u8, to: Register, immediate: i32) -> Instruction {
    Instruction { immediate, ..instruction(opcode, to, R0, 0) }
}

// The names of RFC 9669 section 4 and 5: class, operation, source.

/// `ALU64 | MOV | K`, sign-extended.
const fn set(to: Register, value: i32) -> Instruction {
    with_immediate(0xb7, to, value)
}

/// `ALU64 | MOV | X`.
const fn copy(to: Register, from: Register) -> Instruction {
    instruction(0xbf, to, from, 0)
}

/// `ALU64 | ADD | K`.
const fn add(to: Register, value: i32) -> Instruction {
    with_immediate(0x07, to, value)
}

/// `ALU64 | SUB | X`.
const fn subtract(to: Register, from: Register) -> Instruction {
    instruction(0x1f, to, from, 0)
}

/// `ALU64 | AND | K`.
const fn and(to: Register, value: i32) -> Instruction {
    with_immediate(0x57, to, value)
}

/// `ALU64 | OR | K`.
const fn or(to: Register, value: i32) -> Instruction {
    with_immediate(0x47, to, value)
}

/// `ALU | END | TO_BE`, 16 bits.
const fn to_big_endian(register: Register) -> Instruction {
    with_immediate(0xdc, register, 16)
}

/// `LDX | MEM | W`.
const fn load_word(to: Register, from: Register, offset: i16) -> Instruction {
    instruction(0x61, to, from, offset)
}

/// `STX | MEM | H`.
const fn store_halfword(to: Register, from: Register, offset: i16) -> Instruction {
    instruction(0x6b, to, from, offset)
}

/// `ST | MEM | H`: two bytes as they stand.
fn store_halfword_of(to: Register, offset: i16, bytes: &[u8]) -> Result<Instruction> {
    let value = i16::from_ne_bytes(bytes.try_into().context("not two bytes")?);
    Ok(Instruction { immediate: i32::from(value), ..instruction(0x6a, to, R0, offset) })
}

/// `JMP | JGT | X`.
const fn skip_if_above(one: Register, other: Register, skipped: i16) -> Instruction {
    instruction(0x2d, one, other, skipped)
}

/// `JMP | CALL`.
const fn call(helper: i32) -> Instruction {
    with_immediate(0x85, R0, helper)
}

/// `JMP | EXIT`.
const fn exit() -> Instruction {
    instruction(0x95, R0, R0, 0)
}
