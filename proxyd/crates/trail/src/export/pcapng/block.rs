//! Blocks of pcapng (draft-ietf-opsawg-pcapng), in little-endian order.

/// Begins a section (section 4.1); the comment is about the whole file.
pub(super) fn section(comment: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&BYTE_ORDER_MAGIC.to_le_bytes());
    body.extend_from_slice(&VERSION_MAJOR.to_le_bytes());
    body.extend_from_slice(&VERSION_MINOR.to_le_bytes());
    body.extend_from_slice(&LENGTH_UNKNOWN.to_le_bytes());
    put_option(&mut body, OPTION_COMMENT, comment.as_bytes());
    put_option(&mut body, OPTION_USER_APPLICATION, b"proxyd");
    put_option(&mut body, OPTION_END, b"");
    block(SECTION, &body)
}

/// The only interface (section 4.2): raw IP, times in nanoseconds.
pub(super) fn interface() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&LINK_TYPE_RAW.to_le_bytes());
    body.extend_from_slice(&[0; 2]);
    body.extend_from_slice(&PACKETS_WHOLE.to_le_bytes());
    put_option(&mut body, OPTION_TIME_RESOLUTION, &[NANOSECONDS]);
    put_option(&mut body, OPTION_END, b"");
    block(INTERFACE, &body)
}

/// A packet (section 4.3) at a time in nanoseconds since 1970-01-01 UTC.
pub(super) fn packet(wall_ns: u64, packet: &[u8], comment: Option<&str>) -> Vec<u8> {
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX).to_le_bytes();
    let [high, low] = [wall_ns >> 32, wall_ns & u64::from(u32::MAX)];
    let mut body = vec![0; 4];
    for half in [high, low] {
        body.extend_from_slice(&u32::try_from(half).unwrap_or_default().to_le_bytes());
    }
    body.extend_from_slice(&length);
    body.extend_from_slice(&length);
    body.extend_from_slice(packet);
    pad(&mut body);
    if let Some(comment) = comment {
        put_option(&mut body, OPTION_COMMENT, comment.as_bytes());
        put_option(&mut body, OPTION_END, b"");
    }
    block(ENHANCED_PACKET, &body)
}

/// A block: type, length, body, length (section 3.1).
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + BLOCK_FRAME_BYTES).unwrap_or(u32::MAX).to_le_bytes();
    let mut block = Vec::with_capacity(body.len() + BLOCK_FRAME_BYTES);
    block.extend_from_slice(&kind.to_le_bytes());
    block.extend_from_slice(&length);
    block.extend_from_slice(body);
    block.extend_from_slice(&length);
    block
}

/// Appends an option (section 3.5), whose value is cut at what its length can say.
fn put_option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend(value.iter().take(usize::from(length)));
    pad(out);
}

/// Fills up to the next multiple of 4 bytes.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// 4 type + 4 length + 4 length again.
const BLOCK_FRAME_BYTES: usize = 4 + 4 + 4;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const VERSION_MAJOR: u16 = 1;
const VERSION_MINOR: u16 = 0;
/// The section is as long as the file.
const LENGTH_UNKNOWN: u64 = u64::MAX;

/// Packets begin with their IP header (`LINKTYPE_RAW`).
const LINK_TYPE_RAW: u16 = 101;
/// Packets are kept in full.
const PACKETS_WHOLE: u32 = 0;

const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const OPTION_USER_APPLICATION: u16 = 4;
const OPTION_TIME_RESOLUTION: u16 = 9;
/// Times count in units of 10 to the power of -9 seconds.
const NANOSECONDS: u8 = 9;
