#include "textflag.h"

// What shifts a remainder by a chunk, 2,048 bits: the first 8 bytes of 16, which stand for the higher powers, times x^(2048+63), and the
// others times x^2047, each modulo the polynomial, its highest power in bit 0. (One less than 2048+64 and 2048, because the product of
// two such numbers of 64 bits has its highest power, the 126th, in the place of the 127th.) TestShifts makes them again.
DATA ·shifts+0(SB)/8, $0xe9a5d8be00000000
DATA ·shifts+8(SB)/8, $0x1426a81500000000
GLOBL ·shifts(SB), RODATA|NOPTR, $16

// FOLD shifts the remainder in by a chunk and adds the next 64 bytes, more.
#define FOLD(in, more) \
	VPCLMULQDQ $0x00, Z8, in, Z9 \
	VPCLMULQDQ $0x11, Z8, in, in \
	VPTERNLOGQ $0x96, Z9, more, in

#define LOAD(a, b, c, d) \
	VMOVDQU64 0(SI), a \
	VMOVDQU64 64(SI), b \
	VMOVDQU64 128(SI), c \
	VMOVDQU64 192(SI), d

#define STREAM(a, b, c, d) \
	VMOVNTDQ a, 0(DI) \
	VMOVNTDQ b, 64(DI) \
	VMOVNTDQ c, 128(DI) \
	VMOVNTDQ d, 192(DI) \
	ADDQ $256, SI \
	ADDQ $256, DI \
	SUBQ $256, CX

// func copySum(dst, src *byte, n uintptr, state uint32) uint32
//
// Z0 to Z3 are the remainder of what was read, as 256 bytes that have the same CRC. They start as the first chunk, with the state
// added to its first 4 bytes, which is what having it before means.
TEXT ·copySum(SB), NOSPLIT, $256-36
	MOVQ            dst+0(FP), DI
	MOVQ            src+8(FP), SI
	MOVQ            n+16(FP), CX
	MOVL            state+24(FP), AX
	VMOVD           AX, X10
	VBROADCASTI32X4 ·shifts(SB), Z8
	LOAD(Z0, Z1, Z2, Z3)
	STREAM(Z0, Z1, Z2, Z3)
	VPXORQ          Z10, Z0, Z0
	JZ              rest

next:
	LOAD(Z4, Z5, Z6, Z7)
	STREAM(Z4, Z5, Z6, Z7)
	FOLD(Z0, Z4)
	FOLD(Z1, Z5)
	FOLD(Z2, Z6)
	FOLD(Z3, Z7)
	TESTQ CX, CX
	JNZ   next

rest:
	VMOVDQU64 Z0, 0(SP)
	VMOVDQU64 Z1, 64(SP)
	VMOVDQU64 Z2, 128(SP)
	VMOVDQU64 Z3, 192(SP)
	VZEROUPPER
	SFENCE                 // so that what was streamed is there before whatever comes after
	XORL      AX, AX
	XORQ      BX, BX

sum:
	CRC32Q (SP)(BX*1), AX
	ADDQ   $8, BX
	CMPQ   BX, $256
	JNE    sum
	MOVL   AX, ret+32(FP)
	RET

// func fetch(p *byte, n uintptr)
TEXT ·fetch(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), DI
	MOVQ n+8(FP), CX

more:
	PREFETCHT0 (DI)
	ADDQ       $64, DI
	SUBQ       $64, CX
	JHI        more
	RET
