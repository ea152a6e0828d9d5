//! Draws the test picture. Pure: the same frame number and clock give the same picture.
//!
//! What a measuring program needs of it: 16 blocks along the top from the left edge, white or black, block `i` is bit `i` of the frame number
//! modulo 65536; each is [`block_side`] luma samples wide and high. For the first tenth of each second of the stream the rest is white.

/// The planes of one I420 picture. Strides in bytes.
#[derive(Debug)]
pub struct Planes<'a> {
    /// Luma.
    pub y: &'a mut [u8],
    /// Blue difference.
    pub u: &'a mut [u8],
    /// Red difference.
    pub v: &'a mut [u8],
    /// Bytes from one luma row to the next.
    pub y_stride: usize,
    /// Bytes from one chroma row to the next.
    pub c_stride: usize,
}

/// Blocks of the frame counter.
const BLOCKS: usize = 16;
/// Black and white of limited range (ITU-R BT.709, 4.6).
const BLACK: u8 = 16;
const WHITE: u8 = 235;
/// No colour.
const GREY: u8 = 128;
/// Luma samples from one stripe of the background to the next.
const PERIOD: usize = 256;
/// Luma samples that the background moves with each frame: fast enough to cost bits, slow enough to be followed.
const STEP: usize = 3;
/// U and V of 75 % bars: yellow, cyan, green, magenta, red, blue (ITU-R BT.709 matrix).
const BARS: [(u8, u8); 6] = [(44, 136), (147, 44), (63, 52), (193, 204), (109, 212), (212, 120)];

/// Width and height of one block: a 32nd of the width, to the nearest even number.
pub fn block_side(width: usize) -> usize {
    ((width + 32) / 64 * 2).max(2)
}

/// A size, and what is drawn the same way in each picture.
#[derive(Debug)]
pub struct Canvas {
    width: usize,
    height: usize,
    fps: u64,
    /// One period more than a row, so that a row can begin anywhere in the period.
    stripes: Vec<u8>,
    bars_u: Vec<u8>,
    bars_v: Vec<u8>,
}

impl Canvas {
    /// For pictures of even sides and whole frames per second (at least 1).
    pub fn new(width: usize, height: usize, fps: u32) -> Self {
        let triangle = |x: usize| {
            let x = x % PERIOD;
            u8::try_from(60 + x.min(PERIOD - x)).unwrap_or(WHITE)
        };
        let bar = |x: usize| BARS[x * BARS.len() / (width / 2).max(1)];
        Self {
            width,
            height,
            fps: u64::from(fps.max(1)),
            stripes: (0..width + PERIOD).map(triangle).collect(),
            bars_u: (0..width / 2).map(|x| bar(x).0).collect(),
            bars_v: (0..width / 2).map(|x| bar(x).1).collect(),
        }
    }

    /// Whether the picture is part of a flash.
    pub fn flashes(&self, frame: u64) -> bool {
        (frame % self.fps) * 10 < self.fps
    }

    /// Draws picture number `frame` (from 0) with `unix_millis` as the wall clock.
    pub fn draw(&self, frame: u64, unix_millis: u64, planes: &mut Planes) {
        if self.flashes(frame) {
            planes.y.fill(WHITE);
            planes.u.fill(GREY);
            planes.v.fill(GREY);
        } else {
            self.background(frame, planes);
        }
        let scale = (self.width / 160).max(1);
        let height = (GLYPH_HEIGHT + 2) * scale;
        let middle = self.height / 2;
        self.text(&time_of_day(unix_millis), scale, middle.saturating_sub(height), planes);
        self.text(&time_of_day(frame * 1000 / self.fps), scale, middle, planes);
        self.counter(frame, planes);
    }

    fn background(&self, frame: u64, planes: &mut Planes) {
        // The remainder is below 256.
        let shift = (frame % PERIOD as u64) as usize * STEP;
        for (row, line) in planes.y.chunks_mut(planes.y_stride).take(self.height).enumerate() {
            let from = (row + shift) % PERIOD;
            line[..self.width].copy_from_slice(&self.stripes[from..from + self.width]);
        }
        for (plane, bars) in [(&mut *planes.u, &self.bars_u), (&mut *planes.v, &self.bars_v)] {
            for line in plane.chunks_mut(planes.c_stride).take(self.height / 2) {
                line[..bars.len()].copy_from_slice(bars);
            }
        }
    }

    fn counter(&self, frame: u64, planes: &mut Planes) {
        let side = block_side(self.width);
        for bit in 0..BLOCKS {
            let luma = if frame >> bit & 1 == 1 { WHITE } else { BLACK };
            self.rectangle(bit * side, 0, side, side, luma, planes);
        }
    }

    /// One line of text in the middle of the picture, white on black.
    fn text(&self, text: &str, scale: usize, top: usize, planes: &mut Planes) {
        let advance = (GLYPH_WIDTH + 1) * scale;
        let width = (text.len() * advance + scale).next_multiple_of(2);
        let left = (self.width.saturating_sub(width) / 2).next_multiple_of(2);
        self.rectangle(left, top, width, (GLYPH_HEIGHT + 2) * scale, BLACK, planes);
        for (place, c) in text.chars().enumerate() {
            for (row, bits) in glyph(c).iter().enumerate() {
                for column in (0..GLYPH_WIDTH).filter(|column| bits >> (GLYPH_WIDTH - 1 - column) & 1 == 1) {
                    let x = left + scale + place * advance + column * scale;
                    self.dot(x, top + (row + 1) * scale, scale, scale, WHITE, planes);
                }
            }
        }
    }

    /// A filled rectangle without colour, cut at the edges.
    fn rectangle(&self, left: usize, top: usize, width: usize, height: usize, luma: u8, planes: &mut Planes) {
        self.dot(left, top, width, height, luma, planes);
        let columns = left / 2..((left + width) / 2).min(self.width / 2);
        for row in top / 2..((top + height) / 2).min(self.height / 2) {
            for plane in [&mut *planes.u, &mut *planes.v] {
                plane[row * planes.c_stride..][columns.clone()].fill(GREY);
            }
        }
    }

    /// The luma of a rectangle, cut at the edges.
    fn dot(&self, left: usize, top: usize, width: usize, height: usize, luma: u8, planes: &mut Planes) {
        let columns = left.min(self.width)..(left + width).min(self.width);
        for row in top..(top + height).min(self.height) {
            planes.y[row * planes.y_stride..][columns.clone()].fill(luma);
        }
    }
}

/// `HH:MM:SS.mmm` in UTC.
fn time_of_day(millis: u64) -> String {
    let seconds = millis / 1000;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60, millis % 1000)
}

const GLYPH_WIDTH: usize = 5;
const GLYPH_HEIGHT: usize = 7;

/// Digits of five by seven dots, one byte a row, the leftmost dot in bit 4.
const DIGITS: [[u8; GLYPH_HEIGHT]; 10] = [
    [14, 17, 19, 21, 25, 17, 14],
    [4, 12, 4, 4, 4, 4, 14],
    [14, 17, 1, 2, 4, 8, 31],
    [31, 2, 4, 2, 1, 17, 14],
    [2, 6, 10, 18, 31, 2, 2],
    [31, 16, 30, 1, 1, 17, 14],
    [6, 8, 16, 30, 17, 17, 14],
    [31, 1, 2, 4, 8, 8, 8],
    [14, 17, 17, 14, 17, 17, 14],
    [14, 17, 17, 15, 1, 2, 12],
];

fn glyph(c: char) -> [u8; GLYPH_HEIGHT] {
    match c {
        ':' => [0, 4, 4, 0, 4, 4, 0],
        '.' => [0, 0, 0, 0, 0, 12, 12],
        _ => c.to_digit(10).map_or([0; GLYPH_HEIGHT], |d| DIGITS[d as usize]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(width: usize, height: usize, frame: u64) -> Vec<u8> {
        let canvas = Canvas::new(width, height, 30);
        let (mut y, mut u, mut v) = (vec![0; width * height], vec![0; width * height / 4], vec![0; width * height / 4]);
        let mut planes = Planes { y: &mut y, u: &mut u, v: &mut v, y_stride: width, c_stride: width / 2 };
        canvas.draw(frame, 1_700_000_000_000, &mut planes);
        y
    }

    #[test]
    fn the_frame_number_can_be_read_back() {
        for width in [128, 426, 640, 854, 1280, 1920] {
            let side = block_side(width);
            assert!(side.is_multiple_of(2) && side * BLOCKS <= width);
            for frame in [0, 1, 0xa5c3, 65_535, 65_536 + 7] {
                let y = drawn(width, 72, frame);
                let read = (0..BLOCKS).fold(0, |n, bit| {
                    let sample = y[side / 2 * width + bit * side + side / 2];
                    n | u64::from(sample > 128) << bit
                });
                assert_eq!(read, frame % 65_536, "width {width}");
            }
        }
    }

    #[test]
    fn the_first_tenth_of_each_second_is_white() {
        let canvas = Canvas::new(128, 72, 30);
        let flashes: Vec<_> = (0..61).filter(|&n| canvas.flashes(n)).collect();
        assert_eq!(flashes, [0, 1, 2, 30, 31, 32, 60]);
        let mean = |y: Vec<u8>| y.iter().map(|&s| u64::from(s)).sum::<u64>() / (128 * 72);
        assert!(mean(drawn(128, 72, 30)) > mean(drawn(128, 72, 40)) + 40);
    }

    #[test]
    fn clocks_are_written_in_utc() {
        assert_eq!(time_of_day(1_700_000_000_123), "22:13:20.123");
    }

    #[test]
    fn the_largest_and_the_smallest_picture_are_drawn_without_a_bound_being_crossed() {
        for (w, h) in [(128, 72), (4096, 4096), (72 * 4, 72)] {
            drawn(w, h, 1);
        }
    }
}
