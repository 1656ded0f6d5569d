#include "include/curl-loader.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>

// What is called of libcurl, with the types of curl/curl.h; a handle is opaque there too.
static struct {
  char *(*version)(void);
  int (*global_init)(long flags);
  void *(*easy_init)(void);
  void (*easy_cleanup)(void *);
  void (*easy_reset)(void *);
  int (*easy_setopt)(void *, int, ...);
  int (*easy_getinfo)(void *, int, ...);
  int (*easy_perform)(void *);
  const char *(*easy_strerror)(int);
  void *(*slist_append)(void *, const char *);
  void (*slist_free_all)(void *);
} curl;

#define FUNCTIONS(X) \
  X(version) X(global_init) X(easy_init) X(easy_cleanup) X(easy_reset) X(easy_setopt) \
  X(easy_getinfo) X(easy_perform) X(easy_strerror) X(slist_append) X(slist_free_all)

static const char *const names[] = {
#if defined(__APPLE__)
  "libcurl.4.dylib", "/usr/lib/libcurl.4.dylib",
#else
  "libcurl.so.4", "libcurl-gnutls.so.4", "libcurl-nss.so.4",
#endif
};

// CURL_GLOBAL_ALL: TLS, and on Windows sockets.
enum { EVERYTHING = 3 };

int ccurl_load(const char **missing) {
  static int state = -1;
  static const char *lacking;
  if (state < 0) {
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !library; i++)
      library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    state = library ? 0 : 1;
#define FIND(name)                                                  \
  if (state == 0) {                                                 \
    *(void **)&curl.name = dlsym(library, "curl_" #name);           \
    if (!curl.name) lacking = "curl_" #name, state = 2;             \
  }
    FUNCTIONS(FIND)
    if (state == 0 && curl.global_init(EVERYTHING) != 0) state = 3;
  }
  *missing = lacking;
  return state;
}

const char *ccurl_version(void) { return curl.version(); }
void *ccurl_easy_init(void) { return curl.easy_init(); }
void ccurl_easy_cleanup(void *handle) { curl.easy_cleanup(handle); }
void ccurl_easy_reset(void *handle) { curl.easy_reset(handle); }
const char *ccurl_easy_strerror(int code) { return curl.easy_strerror(code); }
void *ccurl_slist_append(void *list, const char *text) { return curl.slist_append(list, text); }
void ccurl_slist_free_all(void *list) { curl.slist_free_all(list); }

int ccurl_set_long(void *handle, int option, long value) {
  return curl.easy_setopt(handle, option, value);
}
int ccurl_set_text(void *handle, int option, const char *value) {
  return curl.easy_setopt(handle, option, value);
}
int ccurl_set_pointer(void *handle, int option, void *value) {
  return curl.easy_setopt(handle, option, value);
}
int ccurl_set_take(void *handle, int option, ccurl_take value) {
  return curl.easy_setopt(handle, option, value);
}
int ccurl_get_long(void *handle, int info, long *value) {
  return curl.easy_getinfo(handle, info, value);
}
int ccurl_get_text(void *handle, int info, const char **value) {
  return curl.easy_getinfo(handle, info, value);
}

int ccurl_perform(void *handle) {
  // TLS libraries write to sockets as to files. The signal goes to the thread that wrote, so that it
  // can be held back and taken here; one that was pending before stays.
  sigset_t pipe, before, pending;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  sigpending(&pending);
  int was = sigismember(&pending, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, &before);
  int code = curl.easy_perform(handle);
  sigpending(&pending);
  if (!was && sigismember(&pending, SIGPIPE)) {
    int taken;
    sigwait(&pipe, &taken);
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return code;
}
