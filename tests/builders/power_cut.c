/* Loaded before libc into the processes of a listener: notes what they ask of the file system
 * below the folders that POWER_CUT_ROOT names (separated by colons), in the order in which it
 * happened, into POWER_CUT_LOG. A power cut can then be played: power_cut.py.
 *
 *   C ino path        a file was made          W ino offset length   bytes were written
 *   T ino length      it was cut to a length   S ino                 its data were synced
 *   R ino old new     a file was renamed       L ino path            it got another name
 *   U ino path        a name was removed       M path                a folder was made
 *   B id path         a sync of a folder began D id                  it ended
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int log_fd = -1;
static const char *roots;
static atomic_ulong sync_number;

#define REAL(name, result, ...)                                                                    \
  static result (*real)(__VA_ARGS__);                                                              \
  if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("POWER_CUT_LOG");
  roots = getenv("POWER_CUT_ROOT");
  if (path && roots) log_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static int is_below(const char *path) {
  char list[PATH_MAX * 2];
  if (log_fd < 0 || !path || strlen(roots) >= sizeof list) return 0;
  strcpy(list, roots);
  char *rest = NULL;
  for (char *root = strtok_r(list, ":", &rest); root; root = strtok_r(NULL, ":", &rest))
    if (strncmp(path, root, strlen(root)) == 0) return 1;
  return 0;
}

static int path_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return 1;
}

static unsigned long inode_of(int fd) {
  struct stat found;
  return fstat(fd, &found) == 0 ? (unsigned long)found.st_ino : 0;
}

static unsigned long inode_at(const char *path) {
  struct stat found;
  return lstat(path, &found) == 0 ? (unsigned long)found.st_ino : 0;
}

static int is_tracked(int fd) {
  char path[PATH_MAX];
  return log_fd >= 0 && fd != log_fd && path_of(fd, path) && is_below(path);
}

static void note(const char *format, ...) {
  char line[PATH_MAX * 2 + 64];
  va_list given;
  va_start(given, format);
  int length = vsnprintf(line, sizeof line, format, given);
  va_end(given);
  REAL(write, ssize_t, int, const void *, size_t);
  if (length > 0) (void)!real(log_fd, line, (size_t)length);
}

static int made(int fd, const char *path, int flags) {
  if (fd >= 0 && (flags & O_CREAT) && is_below(path)) note("C %lu %s\n", inode_of(fd), path);
  return fd;
}

#define OPEN(name)                                                                                 \
  int name(const char *path, int flags, ...) {                                                     \
    va_list given;                                                                                 \
    va_start(given, flags);                                                                        \
    mode_t mode = va_arg(given, mode_t);                                                           \
    va_end(given);                                                                                 \
    REAL(name, int, const char *, int, ...);                                                       \
    return made(real(path, flags, mode), path, flags);                                             \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                               \
  int name(int folder, const char *path, int flags, ...) {                                         \
    va_list given;                                                                                 \
    va_start(given, flags);                                                                        \
    mode_t mode = va_arg(given, mode_t);                                                           \
    va_end(given);                                                                                 \
    REAL(name, int, int, const char *, int, ...);                                                  \
    return made(real(folder, path, flags, mode), path, flags);                                     \
  }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t length) {
  REAL(write, ssize_t, int, const void *, size_t);
  int tracked = is_tracked(fd);
  long at = tracked ? (long)lseek(fd, 0, SEEK_CUR) : 0;
  ssize_t written = real(fd, data, length);
  if (tracked && written > 0) note("W %lu %ld %zd\n", inode_of(fd), at, written);
  return written;
}

#define PWRITE(name)                                                                               \
  ssize_t name(int fd, const void *data, size_t length, off_t at) {                                \
    REAL(name, ssize_t, int, const void *, size_t, off_t);                                         \
    ssize_t written = real(fd, data, length, at);                                                  \
    if (written > 0 && is_tracked(fd))                                                             \
      note("W %lu %ld %zd\n", inode_of(fd), (long)at, written);                                    \
    return written;                                                                                \
  }
PWRITE(pwrite)
PWRITE(pwrite64)

#define PWRITEV(name)                                                                              \
  ssize_t name(int fd, const struct iovec *parts, int count, off_t at, int flags) {                \
    REAL(name, ssize_t, int, const struct iovec *, int, off_t, int);                               \
    ssize_t written = real(fd, parts, count, at, flags);                                           \
    if (written > 0 && is_tracked(fd))                                                             \
      note("W %lu %ld %zd\n", inode_of(fd), (long)at, written);                                    \
    return written;                                                                                \
  }
PWRITEV(pwritev2)
PWRITEV(pwritev64v2)

ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(writev, ssize_t, int, const struct iovec *, int);
  int tracked = is_tracked(fd);
  long at = tracked ? (long)lseek(fd, 0, SEEK_CUR) : 0;
  ssize_t written = real(fd, parts, count);
  if (tracked && written > 0) note("W %lu %ld %zd\n", inode_of(fd), at, written);
  return written;
}

int ftruncate64(int fd, off_t length) {
  REAL(ftruncate64, int, int, off_t);
  int result = real(fd, length);
  if (result == 0 && is_tracked(fd)) note("T %lu %ld\n", inode_of(fd), (long)length);
  return result;
}

static int synced(int fd, int (*real)(int)) {
  char path[PATH_MAX];
  struct stat found;
  if (log_fd < 0 || !path_of(fd, path) || !is_below(path) || fstat(fd, &found) != 0)
    return real(fd);
  if (S_ISDIR(found.st_mode)) {
    /* What was entered before the sync began is in it; what came meanwhile may not be. */
    unsigned long number = (unsigned long)getpid() * 10000000UL + atomic_fetch_add(&sync_number, 1);
    note("B %lu %s\n", number, path);
    int result = real(fd);
    if (result == 0) note("D %lu\n", number);
    return result;
  }
  int result = real(fd);
  if (result == 0) note("S %lu\n", (unsigned long)found.st_ino);
  return result;
}

int fsync(int fd) {
  REAL(fsync, int, int);
  return synced(fd, real);
}

int fdatasync(int fd) {
  REAL(fdatasync, int, int);
  return synced(fd, real);
}

int rename(const char *old, const char *new) {
  REAL(rename, int, const char *, const char *);
  int tracked = is_below(old) || is_below(new);
  unsigned long inode = tracked ? inode_at(old) : 0;
  int result = real(old, new);
  if (tracked && result == 0) note("R %lu %s\t%s\n", inode, old, new);
  return result;
}

int link(const char *old, const char *new) {
  REAL(link, int, const char *, const char *);
  int result = real(old, new);
  if (result == 0 && is_below(new)) note("L %lu %s\n", inode_at(new), new);
  return result;
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
  REAL(linkat, int, int, const char *, int, const char *, int);
  int result = real(from, old, to, new, flags);
  if (result == 0 && is_below(new)) note("L %lu %s\n", inode_at(new), new);
  return result;
}

int unlink(const char *path) {
  REAL(unlink, int, const char *);
  int tracked = is_below(path);
  unsigned long inode = tracked ? inode_at(path) : 0;
  int result = real(path);
  if (tracked && result == 0) note("U %lu %s\n", inode, path);
  return result;
}

int mkdir(const char *path, mode_t mode) {
  REAL(mkdir, int, const char *, mode_t);
  int result = real(path, mode);
  if (result == 0 && is_below(path)) note("M %s\n", path);
  return result;
}
