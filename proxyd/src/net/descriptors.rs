//! Lines over a Unix socket, with file descriptors (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

/// Descriptors of one message.
const DESCRIPTORS_MAX: usize = 3;

/// Bytes of a line: the report of a whole configuration file may be in it.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes read at a time.
const READ_BYTES: usize = 4_096;

/// Sends a line, which gets its end here, and descriptors with its first bytes.
pub async fn send_line(
    stream: &mut UnixStream,
    line: &str,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let line = format!("{line}\n");
    let bytes = line.as_bytes();
    let mut sent = 0;
    if !descriptors.is_empty() {
        stream.writable().await?;
        let send = || send_with(stream, bytes, descriptors);
        sent = stream.async_io(Interest::WRITABLE, send).await?;
    }
    stream.write_all(bytes.get(sent..).unwrap_or_default()).await
}

fn send_with(
    stream: &UnixStream,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // Padding may leave room for one more than was asked for.
    let fits = descriptors.len() <= DESCRIPTORS_MAX;
    if !(fits && control.push(SendAncillaryMessage::ScmRights(descriptors))) {
        return Err(io::Error::other("more descriptors than a message holds"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Reads one line without its end, and the descriptors that came with it; fails where the other
/// side is gone before that. Nothing may follow the line until it was answered.
pub async fn receive_line(stream: &UnixStream) -> io::Result<(String, Vec<OwnedFd>)> {
    let (mut line, mut descriptors) = (Vec::new(), Vec::new());
    while line.last() != Some(&b'\n') {
        let receive = || receive_some(stream, &mut line, &mut descriptors);
        if stream.async_io(Interest::READABLE, receive).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.len() > LINE_BYTES_MAX {
            let what = format!("a line of more than {LINE_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
    }
    line.pop();
    let line = String::from_utf8(line)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok((line, descriptors))
}

fn receive_some(
    stream: &UnixStream,
    line: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; READ_BYTES];
    let into = &mut [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(stream, into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if descriptors.len() > DESCRIPTORS_MAX || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "too many descriptors in a message",
        ));
    }
    line.extend_from_slice(bytes.get(..received.bytes).unwrap_or_default());
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::fd::AsFd as _;

    use super::*;

    #[tokio::test]
    async fn lines_and_files_arrive() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        send_line(&mut one, "two files", &[file.as_fd(), file.as_fd()]).await.unwrap();
        let (line, descriptors) = receive_line(&other).await.unwrap();
        assert_eq!((line.as_str(), descriptors.len()), ("two files", 2));
        let mut received = File::from(descriptors.into_iter().next().unwrap());
        received.rewind().unwrap();
        let mut content = String::new();
        received.read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");

        let long = "x".repeat(100_000);
        let (sent, received) = tokio::join!(send_line(&mut one, &long, &[]), receive_line(&other));
        sent.unwrap();
        assert_eq!(received.unwrap().0, long);
    }

    #[tokio::test]
    async fn what_is_no_line_is_refused() {
        let (mut one, other) = UnixStream::pair().unwrap();
        one.write_all(b"half").await.unwrap();
        drop(one);
        let cut = receive_line(&other).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);

        let (mut one, other) = UnixStream::pair().unwrap();
        one.write_all(b"\xff\n").await.unwrap();
        let text = receive_line(&other).await.unwrap_err();
        assert_eq!(text.kind(), io::ErrorKind::InvalidData);

        let (mut one, _other) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let many = [file.as_fd(); DESCRIPTORS_MAX + 1];
        send_line(&mut one, "x", &many).await.unwrap_err();

        let (mut one, other) = UnixStream::pair().unwrap();
        let endless = "x".repeat(2 * LINE_BYTES_MAX);
        tokio::select! {
            sent = send_line(&mut one, &endless, &[]) => panic!("{sent:?}"),
            received = receive_line(&other) => {
                assert_eq!(received.unwrap_err().kind(), io::ErrorKind::InvalidData);
            }
        }
    }
}
