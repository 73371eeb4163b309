//! Frames that are made from fuzzer input.
//!
//! The input is a list of operations, most of which become well-formed frames. So the fuzzer, which
//! rarely guesses lengths and ids, reaches the rules of the protocol.

use super::declaration::FunctionInfo;

/// The rest of the input. After its end, it continues with zeros.
pub(crate) struct FuzzInput<'a> {
    rest: &'a [u8],
    functions: &'a [&'a FunctionInfo],
}

impl<'a> FuzzInput<'a> {
    /// Takes a list of operations, in which calls are of these functions.
    pub(crate) fn new(bytes: &'a [u8], functions: &'a [&'a FunctionInfo]) -> Self {
        Self { rest: bytes, functions }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.u8()).min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(len);
        self.rest = rest;
        bytes
    }

    /// Takes a number that is usually small.
    pub(crate) fn u32(&mut self) -> u32 {
        match self.u8() {
            255 => u32::MAX,
            254 => 1 << self.u8().min(31),
            253 => u32::from(self.u16()),
            small => small.into(),
        }
    }

    fn stream(&mut self) -> [u8; 8] {
        u64::from(self.u32()).to_le_bytes()
    }

    /// Takes the number of a call, with a slot and a generation, as a client makes it.
    fn call(&mut self) -> [u8; 8] {
        let number = self.u8();
        (u64::from(number >> 4) << 32 | u64::from(number & 15)).to_le_bytes()
    }

    fn function(&mut self) -> [u8; 8] {
        self.functions[usize::from(self.u8()) % self.functions.len()].id().get().to_le_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        const PIPE: &[u8] = b"\x81\xb2rpc_parallel::Pipe";
        const WRITER: &[u8] = b"\x81\xb8rpc_parallel::PipeWriter";
        match self.u8() % 8 {
            0 => [PIPE, &[0]].concat(),
            1 => [&[0x92, 5], WRITER, &[0]].concat(),
            2 => [&[0x82, 0], PIPE, &[0, 1], PIPE, &[1]].concat(),
            3 => vec![self.u8()],
            4 => [WRITER, &[self.u8()]].concat(),
            5 => vec![0xc0],
            6 => {
                let bytes = self.bytes();
                [&[0xc4, bytes.len() as u8], bytes].concat()
            }
            _ => self.bytes().to_vec(),
        }
    }

    /// Takes a message, with the spans of its caller, the streams that it opens and its deadline.
    fn message(&mut self) -> Vec<u8> {
        let extras = self.u8();
        let mut message = vec![extras & 7];
        message.extend(self.value());
        if extras & 4 != 0 {
            let count = extras >> 3;
            for _ in 0..count {
                message.extend(self.stream());
                message.extend(self.stream());
            }
            message.push(count);
        }
        if extras & 1 != 0 {
            let count = u16::from(extras >> 3) % 4;
            for _ in 0..count {
                message.extend(self.stream());
                message.push(self.u8() & 1);
                message.extend(self.u32().to_le_bytes());
            }
            message.extend(count.to_le_bytes());
        }
        if extras & 2 != 0 {
            message.extend(u64::from(self.u32()).to_le_bytes());
        }
        message
    }

    /// Takes one operation, and appends its bytes.
    pub(crate) fn next_operation(&mut self, bytes: &mut Vec<u8>) {
        let operation = self.u8();
        match operation % 19 {
            0 => bytes.extend(fuzz_frame(4, &[&self.call(), &self.function(), &self.message()])),
            1 => bytes.extend(fuzz_frame(7, &[&self.function(), &self.message()])),
            2 => {
                let (call, outcome) = (self.call(), self.u8() % 4);
                bytes.extend(fuzz_frame(5, &[&call, &[outcome], &self.message()]));
            }
            3 => bytes.extend(fuzz_frame(6, &[&self.call()])),
            4 => {
                let (stream, count) = (self.stream(), self.u32().to_le_bytes());
                bytes.extend(fuzz_frame(8, &[&stream, &count, self.bytes()]));
            }
            5 => {
                // One element for each byte.
                let (stream, len) = (self.stream(), self.u8());
                let count = u32::from(len).to_le_bytes();
                bytes.extend(fuzz_frame(8, &[&stream, &count, &vec![7; len.into()]]));
            }
            6 => bytes.extend(fuzz_frame(9, &[&self.stream(), self.bytes()])),
            7 => bytes.extend(fuzz_frame(10, &[&self.stream()])),
            8 => bytes.extend(fuzz_frame(11, &[&self.stream(), &self.u32().to_le_bytes()])),
            9 => {
                let (transfer, total) = (self.u32().to_le_bytes(), self.u32().to_le_bytes());
                bytes.extend(fuzz_frame(12, &[&transfer, &total, self.bytes()]));
            }
            10 => bytes.extend(fuzz_frame(13, &[&self.u32().to_le_bytes(), self.bytes()])),
            11 => bytes.extend(fuzz_frame(14, &[&self.u32().to_le_bytes()])),
            12 => bytes.extend(fuzz_frame(15, &[&self.stream(), self.bytes()])),
            13 => {
                // The next operation, in two fragments.
                let transfer = self.u32().to_le_bytes();
                let mut whole = Vec::new();
                if operation < 128 {
                    self.next_operation(&mut whole);
                }
                let Some((_, whole)) = whole.split_first_chunk::<4>() else { return };
                let total = (whole.len() as u32).to_le_bytes();
                let (first, second) = whole.split_at(usize::from(self.u8()) % (whole.len() + 1));
                bytes.extend(fuzz_frame(12, &[&transfer, &total, first]));
                bytes.extend(fuzz_frame(13, &[&transfer, second]));
            }
            14 => {
                // The next two operations together.
                if operation < 128 {
                    self.next_operation(bytes);
                    self.next_operation(bytes);
                }
            }
            15 => bytes.extend(fuzz_frame(17, &[])),
            16 => {
                // A welcome whose limits are usually out of range.
                let limits: Vec<u8> = (0..7).flat_map(|_| self.u32().to_le_bytes()).collect();
                bytes.extend(fuzz_frame(2, &[&limits]));
            }
            17 => bytes.extend(fuzz_frame(19, &[&self.u32().to_le_bytes()])),
            _ => bytes.extend_from_slice(self.bytes()),
        }
    }
}

/// Makes a frame of its kind and its fields.
pub(crate) fn fuzz_frame(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let fields = fields.concat();
    let length = fields.len() as u32 + 1;
    [&length.to_le_bytes()[..], &[kind], &fields].concat()
}
