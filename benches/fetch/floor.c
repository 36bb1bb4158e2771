// The floor: receives, writes and hashes a file over plain HTTP, with nothing else around it.
// One thread receives and writes, the other hashes; `one` as last argument does it all on one.
//
// floor PORT PATH FILE [one]        prints the SHA-256 of the body
#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SIZE = 1 << 20, COUNT = 8 };
static unsigned char buffers[COUNT][SIZE];
static size_t lengths[COUNT];
static int head, tail, done;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static EVP_MD_CTX *hash;

static void fail(const char *what) { perror(what); exit(1); }

static void *hash_all(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&mutex);
        while (head == tail && !done) pthread_cond_wait(&changed, &mutex);
        if (head == tail) { pthread_mutex_unlock(&mutex); return NULL; }
        int slot = head % COUNT;
        pthread_mutex_unlock(&mutex);
        EVP_DigestUpdate(hash, buffers[slot], lengths[slot]);
        pthread_mutex_lock(&mutex);
        head++;
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&mutex);
    }
}

int main(int count, char **arguments) {
    if (count < 4) return 2;
    int single = count > 4;
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(connection, (struct sockaddr *)&address, sizeof address)) fail("connect");
    char text[4096];
    int asked = snprintf(text, sizeof text, "GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n", arguments[2]);
    if (write(connection, text, asked) != asked) fail("write");
    int file = open(arguments[3], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0) fail("open");
    hash = EVP_MD_CTX_new();
    EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    pthread_t thread;
    if (!single && pthread_create(&thread, NULL, hash_all, NULL)) fail("pthread_create");

    // The head of the answer ends at an empty line; what follows it in the first buffer is body.
    size_t had = 0;
    unsigned char *body = NULL;
    while (!body) {
        ssize_t got = recv(connection, buffers[0] + had, SIZE - had - 1, 0);
        if (got <= 0) fail("recv");
        had += got;
        buffers[0][had] = 0;
        body = (unsigned char *)strstr((char *)buffers[0], "\r\n\r\n");
    }
    body += 4;
    had -= body - buffers[0];
    memmove(buffers[0], body, had);
    for (int ended = 0; !ended;) {
        int slot = tail % COUNT;
        while (had < SIZE) {
            ssize_t got = recv(connection, buffers[slot] + had, SIZE - had, 0);
            if (got < 0) fail("recv");
            if (got == 0) { ended = 1; break; }
            had += got;
        }
        lengths[slot] = had;
        for (size_t at = 0; at < had;) {
            ssize_t put = write(file, buffers[slot] + at, had - at);
            if (put < 0) fail("write");
            at += put;
        }
        if (single) {
            EVP_DigestUpdate(hash, buffers[slot], had);
        } else {
            pthread_mutex_lock(&mutex);
            tail++;
            done = ended;
            pthread_cond_signal(&changed);
            while (tail - head >= COUNT) pthread_cond_wait(&changed, &mutex);
            pthread_mutex_unlock(&mutex);
        }
        had = 0;
    }
    if (!single) pthread_join(thread, NULL);
    // Everybody who verifies must also be sure of the disk; FLOOR_FSYNC asks the same of the floor.
    if (getenv("FLOOR_FSYNC") && fsync(file)) fail("fsync");
    unsigned char digest[32];
    EVP_DigestFinal_ex(hash, digest, NULL);
    for (int i = 0; i < 32; i++) printf("%02x", digest[i]);
    putchar('\n');
    return 0;
}
