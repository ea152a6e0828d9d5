/* kernel_prelude.cc as a string. */
    .section .rodata
    .globl dd_prelude
    .hidden dd_prelude
dd_prelude:
    .incbin "kernel_prelude.cc"
    .byte 0
    .section .note.GNU-stack, "", @progbits
