//! Compresses with one compressor per thread.
//!
//! The state of a compressor takes some 300 KB: one for each small text would fragment the heap.
//! Does not depend on what is compressed.

use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress};

/// Larger outputs are not kept as a buffer for the next one.
const KEPT_OUTPUT: usize = 256 << 10;

/// The level of pieces, which live until the next portrait: half the time of level 6, and the lines
/// of an app become 5% longer.
const PIECE_LEVEL: u32 = 3;

/// The level of whole texts, which are kept for years.
const TEXT_LEVEL: u32 = 6;

/// A compressor and its output buffer.
struct Compressor {
    compress: Compress,
    output: Vec<u8>,
}

impl Compressor {
    fn new(level: u32, has_zlib_header: bool) -> RefCell<Self> {
        RefCell::new(Self {
            compress: Compress::new(Compression::new(level), has_zlib_header),
            output: Vec::new(),
        })
    }

    fn run(&mut self, input: &[u8], flush: FlushCompress) -> Box<[u8]> {
        let Self { compress, output } = self;
        compress.reset();
        output.clear();
        output.reserve(input.len() / 4 + 64);
        loop {
            let consumed = usize::try_from(compress.total_in()).unwrap_or(input.len());
            // The only error concerns a preset dictionary, which is not used.
            let _ = compress.compress_vec(&input[consumed..], output, flush);
            // Spare room means that no output is pending.
            if output.len() < output.capacity() {
                break;
            }
            output.reserve(output.capacity());
        }
        let compressed = Box::from(&**output);
        output.clear();
        output.shrink_to(KEPT_OUTPUT);
        compressed
    }
}

thread_local! {
    static RAW: RefCell<Compressor> = Compressor::new(PIECE_LEVEL, false);
    static ZLIB: RefCell<Compressor> = Compressor::new(TEXT_LEVEL, true);
}

/// Shorter texts hardly compress, and the end of a flush takes five bytes.
const SHORTEST: usize = 160;

/// Returns raw deflate (RFC 1951) that ends on a byte boundary: a piece that may be anywhere in a stream.
#[must_use]
pub fn piece(input: &[u8]) -> Box<[u8]> {
    match u16::try_from(input.len()) {
        Ok(len) if input.len() < SHORTEST => stored(len, input),
        _ => RAW.with_borrow_mut(|compressor| compressor.run(input, FlushCompress::Full)),
    }
}

/// Returns raw deflate like [`piece`], without compressing anything.
#[must_use]
pub fn uncompressed(input: &[u8]) -> Box<[u8]> {
    let blocks = input.chunks(u16::MAX.into());
    let blocks = blocks.filter_map(|block| Some(stored(u16::try_from(block.len()).ok()?, block)));
    blocks.collect::<Vec<_>>().concat().into()
}

/// Returns a block that is not compressed and not the last one.
fn stored(len: u16, input: &[u8]) -> Box<[u8]> {
    let [low, high] = len.to_le_bytes();
    let header = [0, low, high, !low, !high];
    [&header, input].concat().into()
}

/// Returns a whole text in zlib format (RFC 1950).
#[must_use]
pub fn zlib(input: &[u8]) -> Box<[u8]> {
    ZLIB.with_borrow_mut(|compressor| compressor.run(input, FlushCompress::Finish))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::ZlibDecoder;

    use super::*;

    #[test]
    fn texts_of_any_size_are_compressed_in_turn() {
        let mut random = fastrand::Rng::with_seed(7);
        for length in [0, 1, 300_000, 5, 2_000_000] {
            let text: String = std::iter::repeat_with(|| random.alphanumeric())
                .take(length)
                .collect();
            let compressed = zlib(text.as_bytes());
            let mut read = String::new();
            let mut decoder = ZlibDecoder::new(&*compressed);
            decoder.read_to_string(&mut read).unwrap();
            assert_eq!(read, text);
        }
    }
}
