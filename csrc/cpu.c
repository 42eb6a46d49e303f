/* cpuid lives here and nowhere else. A feature counts only if the operating system saves its registers (XCR0). */
#include "cpu.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

static uint32_t saved_registers(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

cpu_features cpu_features_of_this_machine(void) {
    enum { XCR0_YMM = 0x6, XCR0_ZMM = 0xE6 };
    enum { EDX_SSE2 = 1 << 26, ECX_FMA = 1 << 12, ECX_OSXSAVE = 1 << 27, ECX_AVX = 1 << 28 };
    enum { EBX_AVX2 = 1 << 5, EBX_AVX512F = 1 << 16, EBX_AVX512DQ = 1 << 17, EBX_AVX512BW = 1 << 30 };
    const uint32_t EBX_AVX512VL = 1u << 31;
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) {
        return 0;
    }
    cpu_features has = d & EDX_SSE2 ? CPU_SSE2 : 0;
    if (!(c & ECX_OSXSAVE) || !(c & ECX_AVX)) {
        return has;
    }
    const uint32_t saved = saved_registers();
    const int fma = (c & ECX_FMA) != 0;
    if ((saved & XCR0_YMM) != XCR0_YMM || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return has;
    }
    has |= fma ? CPU_FMA : 0;
    has |= b & EBX_AVX2 ? CPU_AVX2 : 0;
    if ((saved & XCR0_ZMM) == XCR0_ZMM) {
        has |= b & EBX_AVX512F ? CPU_AVX512F : 0;
        has |= b & EBX_AVX512VL ? CPU_AVX512VL : 0;
        has |= b & EBX_AVX512DQ ? CPU_AVX512DQ : 0;
        has |= b & EBX_AVX512BW ? CPU_AVX512BW : 0;
    }
    return has;
}

#elif defined(__ARM_NEON)

cpu_features cpu_features_of_this_machine(void) { return CPU_NEON; }

#else

cpu_features cpu_features_of_this_machine(void) { return 0; }

#endif
