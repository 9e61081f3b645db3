//! Joins compressed pieces into one gzip member.
//!
//! Every piece is raw deflate ended by a full flush, so pieces may follow each other in any
//! order, and the checksum of the whole follows from theirs. Does not depend on metrics.

use bytes::{Buf as _, Bytes, BytesMut};
use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress};

use crate::deflate;

/// Magic number, deflate, no flags, no time, no hint, unknown system (RFC 1952).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A last block without content (RFC 1951).
const FINAL_BLOCK: [u8; 2] = [0x03, 0x00];

/// Checksum and length.
const TRAILER_LEN: usize = 8;

/// The size of a frame that is passed to the network.
const FRAME: usize = 256 << 10;

/// A text, compressed so that it can be anywhere in a gzip member. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    deflated: Bytes,
    checksum: Hasher,
    len: usize,
}

impl Piece {
    /// Compresses a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut checksum = Hasher::new();
        checksum.update(text.as_bytes());
        Self {
            deflated: Vec::from(deflate::piece(text.as_bytes())).into(),
            checksum,
            len: text.len(),
        }
    }

    /// Takes a text as it is: one that changes with every scrape is not worth compressing.
    #[must_use]
    pub fn uncompressed(text: &str) -> Self {
        let mut checksum = Hasher::new();
        checksum.update(text.as_bytes());
        Self {
            deflated: Vec::from(deflate::uncompressed(text.as_bytes())).into(),
            checksum,
            len: text.len(),
        }
    }

    /// Compresses texts, each a piece of its own, into one stretch of memory.
    #[must_use]
    pub fn of_all(texts: &[String]) -> Vec<Self> {
        let deflated: Vec<_> = texts
            .iter()
            .map(|text| match text.as_str() {
                "" => Box::default(),
                text => deflate::piece(text.as_bytes()),
            })
            .collect();
        let mut memory = Bytes::from(deflated.concat());
        let pieces = texts.iter().zip(&deflated).map(|(text, deflated)| {
            let mut checksum = Hasher::new();
            checksum.update(text.as_bytes());
            Self {
                deflated: memory.split_to(deflated.len()),
                checksum,
                len: text.len(),
            }
        });
        pieces.collect()
    }

    /// Joins pieces, which become parts of the result, so that nothing is held twice.
    #[must_use]
    pub fn join(mut pieces: Vec<&mut Self>) -> Self {
        let deflated: Vec<_> = pieces.iter().map(|piece| &*piece.deflated).collect();
        let mut whole = Self {
            deflated: deflated.concat().into(),
            ..Self::default()
        };
        let mut rest = whole.deflated.clone();
        for piece in &mut pieces {
            piece.deflated = rest.split_to(piece.deflated.len());
            whole.checksum.combine(&piece.checksum);
            whole.len += piece.len;
        }
        whole
    }

    /// Returns `true` if it holds no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl PartialEq for Piece {
    /// Compares the compressed texts.
    fn eq(&self, other: &Self) -> bool {
        self.deflated == other.deflated
    }
}

/// A text made of pieces, to be sent compressed or plain.
#[derive(Debug, Clone, Default)]
pub struct Member(Vec<Piece>);

impl Member {
    /// Appends a piece.
    pub fn push(&mut self, piece: Piece) {
        if !piece.is_empty() {
            self.0.push(piece);
        }
    }

    /// Returns the size in bytes of the text.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.len).sum()
    }

    /// Returns `true` if there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the size in bytes of what [`Member::gzip`] yields.
    #[must_use]
    pub fn gzip_len(&self) -> usize {
        let pieces: usize = self.0.iter().map(|piece| piece.deflated.len()).sum();
        HEADER.len() + pieces + FINAL_BLOCK.len() + TRAILER_LEN
    }

    /// Yields one gzip member in frames; compresses nothing.
    pub fn gzip(self) -> impl Iterator<Item = Bytes> + Send + 'static {
        let mut checksum = Hasher::new();
        for piece in &self.0 {
            checksum.combine(&piece.checksum);
        }
        // The length is stored modulo 2^32, as the format requires.
        let len = u32::try_from(self.len() & 0xffff_ffff).unwrap_or_default();
        let mut end = BytesMut::from(&FINAL_BLOCK[..]);
        end.extend_from_slice(&checksum.finalize().to_le_bytes());
        end.extend_from_slice(&len.to_le_bytes());
        let gzip_len = self.gzip_len();
        let parts = self.0.into_iter().map(|piece| piece.deflated);
        let parts = std::iter::once(Bytes::from_static(&HEADER))
            .chain(parts)
            .chain([end.freeze()]);
        frames(parts, gzip_len)
    }

    /// Yields the text in frames, each inflated when it is taken.
    pub fn plain(self) -> impl Iterator<Item = Bytes> + Send + 'static {
        let mut left = self.len();
        let mut pieces = self.0.into_iter().map(|piece| piece.deflated);
        let mut input = Bytes::new();
        // Pieces follow each other as one stream.
        let mut inflate = Decompress::new(false);
        std::iter::from_fn(move || {
            let mut frame = Vec::with_capacity(left.min(FRAME));
            while frame.len() < frame.capacity() {
                if input.is_empty() {
                    input = pieces.next().unwrap_or_default();
                }
                let before = (inflate.total_in(), frame.len());
                let flush = FlushDecompress::None;
                let status = inflate.decompress_vec(&input, &mut frame, flush);
                let read = usize::try_from(inflate.total_in() - before.0).unwrap_or_default();
                input.advance(read);
                if read == 0 && frame.len() == before.1 {
                    debug_assert!(false, "pieces of our own making: {status:?}");
                    break;
                }
            }
            left -= frame.len();
            (!frame.is_empty()).then(|| frame.into())
        })
    }
}

/// Gathers small parts into frames, and passes large ones on as they are; `len` is the length of all.
fn frames(
    parts: impl Iterator<Item = Bytes> + Send + 'static,
    mut len: usize,
) -> impl Iterator<Item = Bytes> + Send + 'static {
    let mut parts = parts.peekable();
    std::iter::from_fn(move || {
        let first = parts.next()?;
        if first.len() >= FRAME || parts.peek().is_none() {
            len -= first.len();
            return Some(first);
        }
        let mut frame = BytesMut::with_capacity(FRAME.min(len));
        frame.extend_from_slice(&first);
        while let Some(part) = parts.next_if(|part| frame.len() + part.len() <= FRAME) {
            frame.extend_from_slice(&part);
        }
        len -= frame.len();
        Some(frame.freeze())
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::bufread::GzDecoder;
    use proptest::prelude::*;

    use super::*;

    /// Makes a member of pieces of all kinds.
    fn member(texts: &[String]) -> Member {
        let mut member = Member::default();
        for (number, texts) in texts.chunks(3).enumerate() {
            let mut pieces: Vec<_> = texts.iter().map(|text| Piece::new(text)).collect();
            if let Some(piece) = pieces.first_mut().filter(|_| number % 2 == 1) {
                *piece = Piece::uncompressed(&texts[0]);
            }
            if number % 3 == 2 {
                member.push(Piece::join(pieces.iter_mut().collect()));
            } else {
                for piece in pieces {
                    member.push(piece);
                }
            }
        }
        member
    }

    /// Reads one gzip member and fails if anything follows it.
    fn gunzip(bytes: &[u8]) -> String {
        let mut decoder = GzDecoder::new(bytes);
        let mut text = String::new();
        decoder.read_to_string(&mut text).unwrap();
        assert!(decoder.into_inner().is_empty(), "one single member");
        text
    }

    fn collect(frames: impl Iterator<Item = Bytes>) -> Vec<u8> {
        frames.flat_map(|frame| frame.to_vec()).collect()
    }

    proptest! {
        #[test]
        fn joined_pieces_are_the_joined_text(texts in proptest::collection::vec(".{0,300}", 0..20)) {
            let whole = texts.concat();
            let member = member(&texts);
            prop_assert_eq!(member.len(), whole.len());
            let gzip = collect(member.clone().gzip());
            prop_assert_eq!(gzip.len(), member.gzip_len());
            prop_assert_eq!(gunzip(&gzip), &whole[..]);
            prop_assert_eq!(String::from_utf8(collect(member.plain())).unwrap(), whole);
        }
    }

    #[test]
    fn large_and_hardly_compressible_pieces_are_joined() {
        let mut random = fastrand::Rng::with_seed(7);
        let texts: Vec<String> = [1, 300_000, 5, 900_000]
            .map(|len| {
                std::iter::repeat_with(|| random.alphanumeric())
                    .take(len)
                    .collect()
            })
            .into();
        let member = member(&texts);
        assert!(member.clone().gzip().count() < 8, "frames, not pieces");
        assert_eq!(gunzip(&collect(member.clone().gzip())), texts.concat());
        let frames: Vec<_> = member.plain().collect();
        assert!(frames.iter().all(|frame| frame.len() <= FRAME));
        assert_eq!(frames.concat(), texts.concat().into_bytes());
    }

    #[test]
    fn an_empty_text_is_a_valid_member_too() {
        assert_eq!(gunzip(&collect(Member::default().gzip())), "");
    }
}
