package signing

// A public key, and the hint by which model_signing 1.1.1 names it.
const (
	pythonKey = `-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEBWbTh5JO17UGK6xF09lOyjYM73MkV4MP
l9Kk2GsjjGSQqmw5B+d7116oSfcTv9Ap8EhlcPmNaoH2RMirSO1kp0GyJzNC/VYN
28aMkigNNYRtPjF6kMrqc0S3OiwgOC7q
-----END PUBLIC KEY-----
`
	pythonHint = "06e40ea58b8401d6d2e810c9d1fb7dc5a2b4c6f860781a70f06a908e108efa97"
)
