/* Finds the static shared memory of kernels, so that every block can be given it filled with NaN.
 *
 * A __shared__ variable is a thread_local variable of a function. Its symbol says which: the
 * variable s of the function _Z1kv is _ZZ1kvE1s. The symbol table of the module that the kernel is
 * in has them all. Without one (a stripped module) nothing is found, and nothing is filled. */
#include "emulator.h"

#include <cstdio>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <map>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

struct variable {
    std::string name;
    size_t offset, bytes; /* in the module's thread block */
    const void *owner;    /* the kernel it is of; NULL: a device function's, or not known yet */
};

struct module {
    ElfW(Addr) base;
    std::vector<variable> variables;
    std::map<ElfW(Addr), std::string> functions;
    std::map<const void *, bool> claimed;
};

struct search {
    uintptr_t address;
    ElfW(Addr) base;
    std::string path;
    unsigned char *thread_block;
    bool found;
};

int visit(dl_phdr_info *info, size_t, void *context) {
    search *s = static_cast<search *>(context);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) &segment = info->dlpi_phdr[i];
        uintptr_t first = info->dlpi_addr + segment.p_vaddr;
        if (segment.p_type != PT_LOAD || s->address < first ||
            s->address >= first + segment.p_memsz)
            continue;
        s->found = true;
        s->base = info->dlpi_addr;
        s->path = *info->dlpi_name ? info->dlpi_name : "/proc/self/exe";
        s->thread_block = static_cast<unsigned char *>(info->dlpi_tls_data);
        return 1;
    }
    return 0;
}

bool starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

/* Reads the symbols of an ELF file that is mapped at image. */
void read_symbols(const unsigned char *image, size_t bytes, module *m) {
    const ElfW(Ehdr) *header = reinterpret_cast<const ElfW(Ehdr) *>(image);
    if (bytes < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_shoff + header->e_shnum * sizeof(ElfW(Shdr)) > bytes)
        return;
    const ElfW(Shdr) *sections = reinterpret_cast<const ElfW(Shdr) *>(image + header->e_shoff);
    for (int i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type != SHT_SYMTAB)
            continue;
        const ElfW(Shdr) &names = sections[sections[i].sh_link];
        const ElfW(Sym) *symbols =
            reinterpret_cast<const ElfW(Sym) *>(image + sections[i].sh_offset);
        size_t count = sections[i].sh_size / sizeof *symbols;
        for (size_t k = 0; k < count; k++) {
            const char *name =
                reinterpret_cast<const char *>(image + names.sh_offset + symbols[k].st_name);
            int type = ELF64_ST_TYPE(symbols[k].st_info);
            if (symbols[k].st_shndx == SHN_UNDEF)
                continue;
            if (type == STT_FUNC && starts_with(name, "_Z"))
                m->functions[symbols[k].st_value] = name;
            else if (type == STT_TLS && starts_with(name, "_ZZ") && !starts_with(name, "_ZZNSt") &&
                     !starts_with(name, "_ZZSt"))
                m->variables.push_back({name, symbols[k].st_value, symbols[k].st_size, nullptr});
        }
    }
}

module *load(const search &s) {
    static std::map<ElfW(Addr), module> modules;
    auto known = modules.find(s.base);
    if (known != modules.end())
        return &known->second;
    module *m = &modules[s.base];
    m->base = s.base;
    int file = open(s.path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file >= 0 && fstat(file, &status) == 0) {
        size_t bytes = static_cast<size_t>(status.st_size);
        void *image = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0);
        if (image != MAP_FAILED) {
            read_symbols(static_cast<const unsigned char *>(image), bytes, m);
            munmap(image, bytes);
        }
    }
    if (file >= 0)
        close(file);
    return m;
}

/* The first time a kernel is seen, the variables of its name become its own. */
void claim(module *m, const void *kernel) {
    if (m->claimed[kernel])
        return;
    m->claimed[kernel] = true;
    auto function = m->functions.find(reinterpret_cast<uintptr_t>(kernel) - m->base);
    if (function == m->functions.end())
        return;
    std::string prefix = "_ZZ" + function->second.substr(2) + "E";
    for (variable &v : m->variables)
        if (starts_with(v.name.c_str(), prefix.c_str()))
            v.owner = kernel;
}

/* The thread's block of variables may not exist before one of them is used. */
thread_local volatile char touched;

module *find(const void *kernel, search *s) {
    touched = 1;
    *s = {reinterpret_cast<uintptr_t>(kernel), 0, "", nullptr, false};
    dl_iterate_phdr(visit, s);
    if (!s->found)
        return nullptr;
    module *m = load(*s);
    claim(m, kernel);
    return m;
}

} // namespace

std::vector<la_emulated_span> la_emulated_static_shared(const void *kernel) {
    std::vector<la_emulated_span> spans;
    search s;
    module *m = find(kernel, &s);
    if (!m || !s.thread_block)
        return spans;
    for (const variable &v : m->variables)
        if (!v.owner || v.owner == kernel)
            spans.push_back({s.thread_block + v.offset, v.bytes});
    return spans;
}

size_t la_emulated_static_shared_bytes(const void *kernel) {
    search s;
    module *m = find(kernel, &s);
    size_t bytes = 0;
    for (size_t i = 0; m && i < m->variables.size(); i++)
        if (m->variables[i].owner == kernel)
            bytes += m->variables[i].bytes;
    return bytes;
}
