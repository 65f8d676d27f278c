/* Counts what a process writes below a directory, and makes one of these writes fail, or be its last.
 *
 * Loaded before libc (LD_PRELOAD) into a test's own process: what Rust's library and SQLite ask of the system goes through
 * here, and nothing in the product knows of it.
 *
 * FAULT_DIRECTORY: below which directory. FAULT_AT: which write, from 1. FAULT_KIND: `kill` ends the process before it, or
 * in its middle where it writes bytes; `eio` and `enospc` let it fail once. FAULT_REPORT: where their number is written. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long points;

static int below(const char *path) {
  const char *directory = getenv("FAULT_DIRECTORY");
  return directory && path && strncmp(path, directory, strlen(directory)) == 0;
}

static int fd_below(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return below(path);
}

static void die(void) {
  raise(SIGKILL);
  for (;;) pause();
}

/* 0: go on; 1: die; else an error. */
static int fault(void) {
  const char *at = getenv("FAULT_AT"), *kind = getenv("FAULT_KIND");
  long point = atomic_fetch_add(&points, 1) + 1;
  if (!at || !kind || point != atol(at)) return 0;
  if (strcmp(kind, "kill") == 0) return 1;
  return strcmp(kind, "enospc") == 0 ? ENOSPC : EIO;
}

#define NEXT(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

#define GUARD(is_below)          \
  if (is_below) {                \
    int found = fault();         \
    if (found == 1) die();       \
    if (found) {                 \
      errno = found;             \
      return -1;                 \
    }                            \
  }

#define WRITES(name, params, call_whole, call_half, types)   \
  ssize_t name params {                                      \
    ssize_t (*next) types = dlsym(RTLD_NEXT, #name);         \
    if (fd_below(fd)) {                                      \
      int found = fault();                                   \
      if (found == 1) {                                      \
        if (count > 1) (void)!next call_half;                \
        die();                                               \
      }                                                      \
      if (found) {                                           \
        errno = found;                                       \
        return -1;                                           \
      }                                                      \
    }                                                        \
    return next call_whole;                                  \
  }

WRITES(write, (int fd, const void *bytes, size_t count), (fd, bytes, count), (fd, bytes, count / 2),
       (int, const void *, size_t))
WRITES(pwrite, (int fd, const void *bytes, size_t count, off_t at), (fd, bytes, count, at), (fd, bytes, count / 2, at),
       (int, const void *, size_t, off_t))
WRITES(pwrite64, (int fd, const void *bytes, size_t count, off64_t at), (fd, bytes, count, at),
       (fd, bytes, count / 2, at), (int, const void *, size_t, off64_t))

#define OF_FD(name)                                       \
  int name(int fd) {                                      \
    GUARD(fd_below(fd))                                   \
    return NEXT(int, #name, int)(fd);                     \
  }
OF_FD(fsync)
OF_FD(fdatasync)

int ftruncate(int fd, off_t size) {
  GUARD(fd_below(fd))
  return NEXT(int, "ftruncate", int, off_t)(fd, size);
}
int ftruncate64(int fd, off64_t size) {
  GUARD(fd_below(fd))
  return NEXT(int, "ftruncate64", int, off64_t)(fd, size);
}
int fchmod(int fd, mode_t mode) {
  GUARD(fd_below(fd))
  return NEXT(int, "fchmod", int, mode_t)(fd, mode);
}
int rename(const char *from, const char *to) {
  GUARD(below(to))
  return NEXT(int, "rename", const char *, const char *)(from, to);
}
int unlink(const char *path) {
  GUARD(below(path))
  return NEXT(int, "unlink", const char *)(path);
}
int unlinkat(int fd, const char *path, int flags) {
  GUARD(below(path) || fd_below(fd))
  return NEXT(int, "unlinkat", int, const char *, int)(fd, path, flags);
}
int rmdir(const char *path) {
  GUARD(below(path))
  return NEXT(int, "rmdir", const char *)(path);
}
int mkdir(const char *path, mode_t mode) {
  GUARD(below(path))
  return NEXT(int, "mkdir", const char *, mode_t)(path, mode);
}

#define OPENS(name)                                                        \
  int name(const char *path, int flags, ...) {                             \
    va_list rest;                                                          \
    va_start(rest, flags);                                                 \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                          \
    if (flags & O_CREAT) {                                                 \
      GUARD(below(path) && access(path, F_OK) != 0)                        \
    }                                                                      \
    return NEXT(int, #name, const char *, int, ...)(path, flags, mode);    \
  }
OPENS(open)
OPENS(open64)

__attribute__((destructor)) static void report(void) {
  const char *place = getenv("FAULT_REPORT");
  FILE *file = place ? fopen(place, "w") : NULL;
  if (!file) return;
  fprintf(file, "%ld", atomic_load(&points));
  fclose(file);
}
