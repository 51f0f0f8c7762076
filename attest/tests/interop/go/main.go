// Reads and writes ledger texts with the transparency logs' own libraries, which share no line with this project.
//
//	go run . make > ../theirs.json    writes what our code has to read
//	go run . check ../ours.json       reads what our code has written
//
// Not part of the continuous build: theirs.json is kept, and so is ours.json, byte for byte as it was checked.
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type vectors struct {
	Log         string  `json:"log"`
	Cosigner    string  `json:"cosigner"`
	Checkpoints []head  `json:"checkpoints"`
	Proofs      []proof `json:"proofs"`
}

type head struct {
	Origin string `json:"origin"`
	Size   uint64 `json:"size"`
	Root   string `json:"root"`
	Note   string `json:"note"`
}

type proof struct {
	Old     int64    `json:"old"`
	New     int64    `json:"new"`
	OldRoot string   `json:"old_root"`
	NewRoot string   `json:"new_root"`
	Proof   []string `json:"proof"`
}

var sizes = []int64{1, 2, 3, 4, 5, 7, 8, 13, 32, 33, 100, 129, 300}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func ensure(right bool, what string) {
	if !right {
		must(0, fmt.Errorf("wrong: %s", what))
	}
}

// Hashes of the log whose leaf number n has the bytes of the decimal number n.
func hashes() tlog.HashReaderFunc {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var found []tlog.Hash
		for _, index := range indexes {
			found = append(found, stored[index])
		}
		return found, nil
	})
	for n := int64(0); n < sizes[len(sizes)-1]; n++ {
		stored = append(stored, must(tlog.StoredHashes(n, []byte(fmt.Sprint(n)), reader))...)
	}
	return reader
}

// A key of notes as a file would hold it, made of a seed.
func secret(name string, algorithm, seed byte) (skey, vkey string) {
	private := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), ed25519.SeedSize)))
	public := append([]byte{algorithm}, private.Public().(ed25519.PublicKey)...)
	sum := sha256.Sum256(append([]byte(name+"\n"), public...))
	id := binary.BigEndian.Uint32(sum[:])
	encoded := base64.StdEncoding.EncodeToString(append([]byte{algorithm}, private.Seed()...))
	skey = fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, id, encoded)
	return skey, fmt.Sprintf("%s+%08x+%s", name, id, base64.StdEncoding.EncodeToString(public))
}

func write() {
	origin := "carbonmirror/acme-corp/018f4d2a-7b1c-7def-8123-456789abcdef/3"
	logKey, logPublic := secret(origin, 1, 'l')
	witnessKey, witnessPublic := secret("dash.example:8443", 4, 'w')
	signer := must(note.NewSigner(logKey))
	witness := must(fnote.NewSignerForCosignatureV1(witnessKey))
	out := vectors{Log: logPublic, Cosigner: witnessPublic}
	reader := hashes()
	for _, size := range sizes {
		root := must(tlog.TreeHash(size, reader))
		checkpoint := log.Checkpoint{Origin: origin, Size: uint64(size), Hash: root[:]}
		signed := must(note.Sign(&note.Note{Text: string(checkpoint.Marshal())}, signer, witness))
		out.Checkpoints = append(out.Checkpoints, head{origin, uint64(size), root.String(), string(signed)})
		for _, old := range sizes {
			if old >= size {
				break
			}
			hashes := must(tlog.ProveTree(size, old, reader))
			texts := []string{}
			for _, hash := range hashes {
				texts = append(texts, hash.String())
			}
			oldRoot := must(tlog.TreeHash(old, reader))
			out.Proofs = append(out.Proofs, proof{old, size, oldRoot.String(), root.String(), texts})
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "")
	must(0, encoder.Encode(out))
}

func check(path string) {
	var in vectors
	must(0, json.Unmarshal(must(os.ReadFile(path)), &in))
	verifier := must(note.NewVerifier(in.Log))
	witness := must(fnote.NewVerifierForCosignatureV1(in.Cosigner))
	reader := hashes()
	for _, head := range in.Checkpoints {
		checkpoint, _, opened, err := log.ParseCheckpoint([]byte(head.Note), head.Origin, verifier, witness)
		must(0, err)
		ensure(len(opened.Sigs) == 2 && len(opened.UnverifiedSigs) == 0, "signatures of "+head.Note)
		root := must(tlog.TreeHash(int64(head.Size), reader))
		ensure(checkpoint.Size == head.Size && tlog.Hash(checkpoint.Hash) == root, "head of "+head.Note)
		must(fnote.CoSigV1Timestamp(opened.Sigs[1]))
		changed := strings.Replace(head.Note, fmt.Sprintf("\n%d\n", head.Size), fmt.Sprintf("\n%d\n", head.Size+1), 1)
		_, _, _, err = log.ParseCheckpoint([]byte(changed), head.Origin, verifier, witness)
		ensure(err != nil, "a changed note is opened")
	}
	for _, proof := range in.Proofs {
		var hashes tlog.TreeProof
		for _, text := range proof.Proof {
			hashes = append(hashes, must(tlog.ParseHash(text)))
		}
		oldRoot, newRoot := must(tlog.ParseHash(proof.OldRoot)), must(tlog.ParseHash(proof.NewRoot))
		must(0, tlog.CheckTree(hashes, proof.New, newRoot, proof.Old, oldRoot))
	}
	fmt.Printf("%d checkpoints with cosignatures and %d proofs verified\n", len(in.Checkpoints), len(in.Proofs))
}

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "make":
		write()
	case len(os.Args) == 3 && os.Args[1] == "check":
		check(os.Args[2])
	default:
		must(0, fmt.Errorf("go run . make > ../theirs.json, or go run . check ../ours.json"))
	}
}
